// A group's part of the coordination tree: keeps the View that the group protocol decides by, this
// replica's member node, and carries out the protocol's requests. Belongs to one loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordination/client.h"
#include "protocol/records.h"
#include "replication/effects.h"
#include "runtime/loop.h"
#include "runtime/task_group.h"
#include "telemetry/log.h"

namespace datom::volume {

class GroupWatch {
 public:
  struct Place {
    std::string domain;
    Uuid volume;
    std::string service;
    std::string guid;  // of this process's part in this group: in the names of its nodes
  };
  struct Result {
    std::uint64_t number = 0;
    replication::Outcome outcome = replication::Outcome::refused;
    std::string path;
    std::int32_t version = 0;
  };
  using OnView = std::function<void(replication::View)>;
  using OnResult = std::function<void(Result)>;

  // Both callbacks run on the loop, never from within a call of this class.
  GroupWatch(runtime::Loop& loop, Place place, telemetry::Log log, OnView on_view,
             OnResult on_result);
  // stop() must have returned.
  ~GroupWatch();

  // Begins with this client of a live session, or goes on with one of a new session: joins as a
  // member, watches, delivers views. `client` outlives it until session_lost() or stop().
  void begin(coordination::Client& client);
  // The session is over: delivers an expired view; requests under way fail as refused.
  void session_lost();

  // One at a time: the group protocol asks for the next after the outcome of the last.
  void perform(replication::Coordinate request);

  // Waits until nothing uses a client of a lost session any more. After session_lost().
  runtime::Task<void> drained();
  // Removes the member node, as far as coordination answers, and ends.
  runtime::Task<void> stop();

 private:
  runtime::Task<void> follow(std::uint64_t session);
  runtime::Task<void> refresh(coordination::Client& client);
  runtime::Task<void> join(coordination::Client& client);
  runtime::Task<void> carry_out(replication::Coordinate request);
  runtime::Task<Result> execute(coordination::Client& client, replication::Coordinate request);
  // The nodes under a parent: ephemeral, their names never used again, so each is read once.
  struct Listing {
    explicit Listing(std::string path) : parent(std::move(path)) {}
    const std::string parent;
    bool stale = true;
    coordination::WatchHandle watch;
    std::map<std::string, coordination::Node> known;  // by name
    std::vector<replication::Holder> holders;         // by sequence
  };
  runtime::Task<void> read_record(coordination::Client& client);
  runtime::Task<void> read_holders(coordination::Client& client, Listing& listing);
  coordination::OnChange on_change(bool& stale);
  void all_stale();
  void drop_watches();
  void report_away();

  runtime::Loop& loop_;
  const Place place_;
  const std::string group_path_;
  telemetry::Log log_;
  OnView on_view_;
  OnResult on_result_;
  coordination::Client* client_ = nullptr;
  std::uint64_t session_ = 0;  // counts begin() and session_lost(): late results are dropped
  bool stopping_ = false;
  bool joined_ = false;
  replication::View last_view_;
  runtime::Event changed_;
  runtime::Timer retry_;
  runtime::Mutex refreshing_;
  // What was read last, and whether it has changed since.
  std::optional<protocol::GroupRecord> record_;
  coordination::Version record_version_ = 0;
  bool record_stale_ = true;
  coordination::WatchHandle record_watch_;
  Listing members_;
  Listing locks_;
  coordination::WatchHandle session_watch_;
  runtime::TaskGroup tasks_;
};

}  // namespace datom::volume
