// The VolumeClient of one attachment.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "protocol/volume.pb.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "volume/client.h"
#include "volume/replica.h"
#include "volume/volume_server.h"

namespace datom::volume {

// What a client asks of the volume server that it is attached to.
class ClientHost {
 public:
  virtual ~ClientHost() = default;
  // The volume's replica here, nullptr if there is none now.
  virtual Replica* replica(const Uuid& volume) = 0;
  // The volume as it is now; nullptr if it is no longer in the domain. Valid until the next wait.
  virtual const protocol::VolumeRecord* record(const Uuid& volume) = 0;
  // The client goes by this uuid from now on, or, with `now` nil, is gone.
  virtual void renamed(const Uuid& before, const Uuid& now) = 0;
};

class AttachedClient final : public VolumeClient {
 public:
  AttachedClient(Seams seams, std::string service, protocol::VolumeRecord volume, ClientHost& host);
  ~AttachedClient() override;

  const protocol::VolumeRecord& record() const override { return volume_; }
  runtime::Task<Buffer> read(std::uint64_t offset, std::uint32_t length) override;
  runtime::Task<void> write(std::uint64_t offset, Buffer data) override;
  runtime::Task<void> trim(std::uint64_t offset, std::uint64_t length) override;
  runtime::Task<void> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                   bool keep_allocated) override;
  runtime::Task<std::vector<block_store::Extent>> extents(std::uint64_t offset,
                                                          std::uint64_t length,
                                                          std::size_t max_extents) override;
  runtime::Task<void> close() override;

 private:
  struct UnderWay;
  class Numbered;

  runtime::Task<rpc::Message> ask(const protocol::ClientIo& io, Buffer payload,
                                  bool* repeated = nullptr);
  runtime::Task<rpc::Message> attempt(std::string service, const protocol::ClientIo& io,
                                      Buffer payload);
  void check_open() const;
  std::string choose_leader();
  runtime::Duration wait_of_limits() const;
  runtime::Task<void> pause(runtime::Duration duration);
  runtime::Task<Op> session();
  runtime::Task<void> change(protocol::IoKind kind, std::uint64_t offset, std::uint64_t length,
                             Buffer payload);
  runtime::Task<void> change_range(protocol::IoKind kind, std::uint64_t offset,
                                   std::uint64_t length);
  runtime::Task<void> read_piece(std::uint64_t offset, MutableBytes into);
  runtime::Task<void> run_all(std::vector<runtime::Task<void>> pieces);
  void draw_identity();

  const Seams seams_;
  const std::string service_;
  const protocol::VolumeRecord volume_;
  ClientHost& host_;
  Uuid identity_;
  std::string leader_;  // who is thought to lead; "" if not known
  std::string silent_;  // who gave no answer to the last request that failed
  std::size_t next_guess_ = 0;
  bool closed_ = false;
  bool fenced_ = false;  // another client took the volume over
  Op session_;
  Op closes_;  // by the next session: a change in it has an unknown outcome
  runtime::Mutex attaching_;
  std::uint64_t next_sequence_ = 1;  // goes on from session to session: incomplete_ is of all
  std::set<std::uint64_t> incomplete_;
  runtime::Event progress_;  // a request ended, or the client closes
  std::size_t under_way_ = 0;
};

}  // namespace datom::volume
