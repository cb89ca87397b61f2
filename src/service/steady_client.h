// A coordination client that outlives sessions: for those who read and watch (connection cache,
// properties) and need not know that one session was followed by another.
#pragma once

#include <memory>
#include <set>

#include "coordination/client.h"
#include "runtime/loop.h"
#include "runtime/wait.h"

namespace datom::service {

// Passes everything on to the client of the current session. While there is none, calls fail with
// unavailable and the state is `connecting`; watches fire when a session is lost, so that what they
// guarded is read again. It never reports `expired`. Belongs to one loop.
class SteadyClient final : public coordination::Client {
 public:
  explicit SteadyClient(runtime::Loop& loop);
  // No session is current, and no watch left.
  ~SteadyClient() override;

  // `client`, of a new session, is the current one until session_lost().
  void session_begins(coordination::Client& client);
  // Returns when nothing uses the client any more.
  runtime::Task<void> session_lost();

  runtime::Task<std::string> create(std::string path, std::string data,
                                    coordination::CreateOptions options) override;
  runtime::Task<coordination::Version> set(std::string path, std::string data,
                                           coordination::Version expected) override;
  runtime::Task<void> remove(std::string path, coordination::Version expected) override;
  runtime::Task<std::vector<coordination::OperationResult>> multi(
      std::vector<coordination::Operation> operations) override;
  runtime::Task<std::optional<coordination::Node>> get(std::string path) override;
  runtime::Task<std::optional<coordination::Node>> get(std::string path,
                                                       coordination::OnChange on_change,
                                                       coordination::WatchHandle& watch) override;
  runtime::Task<std::optional<std::vector<std::string>>> children(std::string path) override;
  runtime::Task<std::optional<std::vector<std::string>>> children(
      std::string path, coordination::OnChange on_change,
      coordination::WatchHandle& watch) override;
  runtime::Task<void> sync() override;
  coordination::SessionState state() const override;
  std::int64_t session_id() const override;
  coordination::WatchHandle watch_session(
      std::function<void(coordination::SessionState)> on_state) override;

 private:
  class DataWatch;
  class SessionWatch;
  class Use;

  coordination::Client& current() const;
  void tell(coordination::SessionState state);

  runtime::Loop& loop_;
  coordination::Client* current_ = nullptr;
  coordination::WatchHandle session_watch_;
  std::size_t in_use_ = 0;  // calls under way
  runtime::Event unused_;
  std::set<DataWatch*> data_watches_;
  std::set<SessionWatch*> session_watches_;
};

}  // namespace datom::service
