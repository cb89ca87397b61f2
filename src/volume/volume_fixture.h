// For tests: whole volume servers on one virtual loop: real replicas, journals, block stores and
// clients over disks in memory that a test can damage, coordination and a network in memory.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "coordination/memory/memory.h"
#include "properties/properties.h"
#include "protocol/records.h"
#include "protocol/volume.pb.h"
#include "rpc/memory_network.h"
#include "runtime/faulty_files.h"
#include "runtime/memory_files.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"
#include "volume/volume_server.h"

namespace datom::volume {

using runtime::Task;
using namespace std::chrono_literals;

inline constexpr std::uint64_t kSize = 64 << 20;
inline const std::string kDomain = "test";
inline const Uuid kVolume = Uuid::from_random(7, 7);

inline Buffer filled(std::size_t size, std::uint64_t seed) {
  Buffer buffer = Buffer::allocate(size);
  runtime::SeededRandom random(seed);
  for (std::size_t i = 0; i + 8 <= size; i += 8) store_le(buffer.mutable_data() + i, random.next());
  return buffer;
}

inline bool same(const Buffer& a, const Buffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

// One volume server: its disk outlives the process.
class Server {
 public:
  Server(runtime::VirtualLoop& loop, coordination::MemoryTree& tree, rpc::MemoryNetwork& network,
         std::string name)
      : loop_(loop), tree_(tree), network_(network), name_(std::move(name)) {}

  Task<void> start() {
    ++starts_;
    random_ = std::make_unique<runtime::SeededRandom>(std::hash<std::string>()(name_) + starts_);
    files_ = runtime::make_faulty_filesystem(
        runtime::make_memory_filesystem(loop_, disk_),
        [this](const runtime::FileOperation& operation) { return faults ? faults(operation) : 0; });
    coordination_ = tree_.open_session(loop_);
    properties_ =
        std::make_unique<properties::Properties>(loop_, kDomain, [](const std::string&) {});
    co_await properties_->start(*coordination_);
    router_ = std::make_unique<rpc::Router>();
    caller_ = network_.join(name_, *router_);
    Seams seams;
    seams.loop = &loop_;
    seams.random = random_.get();
    seams.files = files_.get();
    seams.coordination = coordination_.get();
    seams.caller = caller_.get();
    seams.properties = properties_.get();
    seams.metrics = &metrics_;
    seams.log = telemetry::Log::silent();
    server_ = std::make_unique<VolumeServer>(
        seams, VolumeServerOptions{kDomain, name_, "/" + name_, 0, 1, {}});
    server_->register_handlers(*router_);
    co_await server_->start();
  }

  // As kill -9 and a power cut at once: nothing more leaves it, the disk loses what was not synced.
  // The process's objects are unwound afterwards, cut off from everything.
  Task<void> crash() {
    network_.take_down(name_);
    disk_.crash(*random_);
    files_dead_ = std::move(files_);
    tree_.expire(coordination_->session_id());
    co_await server_->coordination_lost();
    co_await unwind();
  }

  Task<void> stop() {
    co_await server_->stop();
    co_await properties_->stop();
    co_await caller_->stop();
    server_.reset();
    tree_.end(coordination_->session_id());
    reset();
  }

  VolumeServer& operator*() { return *server_; }
  VolumeServer* operator->() { return server_.get(); }
  bool up() const { return server_ != nullptr; }
  runtime::MemoryDisk& disk() { return disk_; }
  rpc::Caller& caller() { return *caller_; }
  std::string metrics() const { return metrics_.text(); }
  const std::string& name() const { return name_; }
  std::string directory() const {
    return "/" + name_ + "/" + name_ + "/replicas/" + kVolume.to_string();
  }
  runtime::Faults faults;  // of its disk; none until set

 private:
  Task<void> unwind() {
    co_await server_->stop();
    co_await properties_->stop();
    co_await caller_->stop();
    server_.reset();
    reset();
  }
  void reset() {
    caller_.reset();
    router_.reset();
    properties_.reset();
    coordination_.reset();
    files_.reset();
    files_dead_.reset();
  }

  runtime::VirtualLoop& loop_;
  coordination::MemoryTree& tree_;
  rpc::MemoryNetwork& network_;
  std::string name_;
  std::uint64_t starts_ = 0;
  runtime::MemoryDisk disk_;
  telemetry::Metrics metrics_;
  std::unique_ptr<runtime::SeededRandom> random_;
  std::unique_ptr<runtime::Filesystem> files_;
  std::unique_ptr<runtime::Filesystem> files_dead_;
  std::unique_ptr<coordination::Client> coordination_;
  std::unique_ptr<properties::Properties> properties_;
  std::unique_ptr<rpc::Router> router_;
  std::unique_ptr<rpc::MemoryEndpoint> caller_;
  std::unique_ptr<VolumeServer> server_;
};

class Volume : public testing::Test {
 protected:
  explicit Volume(int servers = 3, protocol::Access access = protocol::Access::exclusive) {
    for (int i = 1; i <= servers; ++i) {
      servers_.push_back(
          std::make_unique<Server>(loop_, tree_, network_, "vs" + std::to_string(i)));
    }
    admin_ = tree_.open_session(loop_);
    run(create_volume(access));
    for (auto& server : servers_) run(server->start());
  }
  ~Volume() override {
    for (auto& server : servers_) {
      if (server->up()) run(server->stop());
    }
  }

  void run(Task<void> task) { loop_.run(std::move(task)); }

  Task<void> create_volume(protocol::Access access) {
    protocol::VolumeRecord record;
    record.access = access;
    record.id = kVolume;
    record.name = "v";
    record.size = kSize;
    protocol::GroupRecord group;
    for (std::uint64_t i = 0; i < servers_.size(); ++i) {
      record.replicas.push_back({servers_[i]->name(), Uuid::from_random(i + 1, 9)});
    }
    group.voters = record.replicas;
    const std::string path = protocol::paths::group(kDomain, record.id);
    co_await coordination::ensure_path(*admin_, protocol::paths::volumes(kDomain));
    co_await coordination::ensure_path(*admin_, protocol::paths::groups(kDomain));
    co_await coordination::ensure_path(*admin_, protocol::paths::properties(kDomain));
    co_await admin_->create(path, group.to_json());
    co_await admin_->create(protocol::paths::group_members(kDomain, record.id), "");
    co_await admin_->create(protocol::paths::group_locks(kDomain, record.id), "");
    co_await admin_->create(protocol::paths::volume(kDomain, "v"), record.to_json());
  }

  Task<void> set_property(std::string name, std::string value) {
    protocol::PropertyRecord record;
    record.value = std::move(value);
    co_await admin_->create(protocol::paths::property(kDomain, name), record.to_json());
  }
  Task<void> wipe(Server& server) {
    auto files = runtime::make_memory_filesystem(loop_, server.disk());
    co_await files->remove_tree("/" + server.name());
  }

  // Waits (in virtual time) until a server serves as leader; gives its index.
  std::size_t leader() {
    for (int i = 0; i < 1000; ++i) {
      for (std::size_t at = 0; at < servers_.size(); ++at) {
        if (status(at).state() == "LEADER_FUNCTIONAL") return at;
      }
      loop_.advance(20ms);
    }
    ADD_FAILURE() << "no leader within 20 s";
    return 0;
  }

  protocol::ReplicaStatus status(std::size_t at) {
    protocol::ReplicaStatus found;
    if (!servers_[at]->up()) return found;
    run(ask_status(at, found));
    return found;
  }
  Task<void> ask_status(std::size_t at, protocol::ReplicaStatus& found) {
    protocol::ReplicaStatusRequest request;
    rpc::Message question;
    question.header = request.SerializeAsString();
    const rpc::Message answer =
        co_await servers_[at]->caller().call(servers_[at]->name(), 100, std::move(question), 5s);
    protocol::ReplicaStatusReply reply;
    EXPECT_TRUE(reply.ParseFromString(answer.header));
    if (reply.replicas_size() > 0) found = reply.replicas(0);
  }

  std::unique_ptr<VolumeClient> attach(std::size_t at) {
    std::unique_ptr<VolumeClient> client;
    run(attach_to(at, client));
    return client;
  }
  Task<void> attach_to(std::size_t at, std::unique_ptr<VolumeClient>& client) {
    client = co_await (*servers_[at])->attach("v");
  }
  void write(VolumeClient& client, std::uint64_t offset, Buffer data) {
    run(client.write(offset, std::move(data)));
  }
  Buffer read(VolumeClient& client, std::uint64_t offset, std::uint32_t length) {
    Buffer into;
    run(read_into(client, offset, length, into));
    return into;
  }
  static Task<void> read_into(VolumeClient& client, std::uint64_t offset, std::uint32_t length,
                              Buffer& into) {
    into = co_await client.read(offset, length);
  }
  Code code_of(Task<void> task) {
    try {
      run(std::move(task));
    } catch (const Error& error) {
      return error.code();
    }
    return Code{};
  }

  bool converged() {
    std::string first;
    for (std::size_t at = 0; at < servers_.size(); ++at) {
      const protocol::ReplicaStatus one = status(at);
      if (one.role() != "leader" && one.state() != "FOLLOWER_FUNCTIONAL") return false;
      if (one.applied_op() != one.last_op()) return false;
      const std::string text = std::to_string(one.applied_op());
      if (first.empty()) first = text;
      if (text != first) return false;
    }
    return true;
  }
  void wait_converged() {
    for (int i = 0; i < 3000; ++i) {
      if (converged()) return;
      loop_.advance(20ms);
    }
    std::string text;
    for (std::size_t at = 0; at < servers_.size(); ++at)
      text += status(at).ShortDebugString() + "\n";
    FAIL() << text;
  }

  runtime::VirtualLoop loop_;
  coordination::MemoryTree tree_;
  rpc::MemoryNetwork network_{loop_};
  std::vector<std::unique_ptr<Server>> servers_;
  std::unique_ptr<coordination::Client> admin_;
};

}  // namespace datom::volume
