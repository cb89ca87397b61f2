#include "volume/group_watch.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "common/error.h"
#include "protocol/records.h"

namespace datom::volume {
namespace {

using replication::Outcome;

constexpr runtime::Duration kRetry = std::chrono::milliseconds(200);

// The ten digits that coordination appends to a sequential node's name.
std::string_view sequence_of(std::string_view name) {
  return name.size() > 10 ? name.substr(name.size() - 10) : name;
}

Outcome outcome_of(Code code) {
  switch (code) {
    case Code::outcome_unknown:
    case Code::timeout:
      return Outcome::unknown;
    default:
      return Outcome::refused;
  }
}

}  // namespace

GroupWatch::GroupWatch(runtime::Loop& loop, Place place, telemetry::Log log, OnView on_view,
                       OnResult on_result)
    : loop_(loop),
      place_(std::move(place)),
      group_path_(protocol::paths::group(place_.domain, place_.volume)),
      log_(std::move(log)),
      on_view_(std::move(on_view)),
      on_result_(std::move(on_result)),
      changed_(loop),
      retry_(loop),
      refreshing_(loop),
      members_(protocol::paths::group_members(place_.domain, place_.volume)),
      locks_(protocol::paths::group_locks(place_.domain, place_.volume)),
      tasks_(loop, [this](std::exception_ptr error) {
        try {
          std::rethrow_exception(error);
        } catch (const std::exception& e) {
          log_.error("group.watch_failed", {}, e.what());
        }
      }) {}

GroupWatch::~GroupWatch() = default;

void GroupWatch::begin(coordination::Client& client) {
  client_ = &client;
  joined_ = false;
  session_watch_ = client.watch_session([this](coordination::SessionState) {
    all_stale();
    changed_.set();
  });
  all_stale();
  tasks_.spawn(follow(++session_));
}

void GroupWatch::all_stale() {
  record_stale_ = members_.stale = locks_.stale = true;
}

void GroupWatch::drop_watches() {
  session_watch_.reset();
  record_watch_.reset();
  members_.watch.reset();
  locks_.watch.reset();
}

void GroupWatch::session_lost() {
  ++session_;
  client_ = nullptr;
  drop_watches();
  changed_.set();
  retry_.cancel();
  last_view_ = {};
  last_view_.expired = true;
  loop_.post([this] {
    if (!stopping_) on_view_(last_view_);
  });
}

runtime::Task<void> GroupWatch::drained() {
  co_await tasks_.wait_idle();
}

// Coordination cannot be reached: what was read last stays a hint, but nobody may stand by it.
void GroupWatch::report_away() {
  if (!std::exchange(last_view_.connected, false)) return;
  on_view_(last_view_);
}

coordination::OnChange GroupWatch::on_change(bool& stale) {
  return [this, &stale] {
    stale = true;
    changed_.set();
  };
}

// Reads what has changed anew; retries while coordination is away.
runtime::Task<void> GroupWatch::follow(std::uint64_t session) {
  while (!stopping_ && session == session_) {
    changed_.clear();
    bool failed = false;
    try {
      if (!joined_) co_await join(*client_);
      if (session == session_) co_await refresh(*client_);
    } catch (const Error& error) {
      failed = true;
      log_.debug("group.coordination", {}, error.what());
    }
    if (stopping_ || session != session_) break;
    if (failed) {
      report_away();
      retry_.reset();
      co_await retry_.sleep_for(kRetry);
    } else {
      co_await changed_.wait();
    }
  }
}

// This replica's member node, once a session. One left by an earlier process is not ours (T4).
runtime::Task<void> GroupWatch::join(coordination::Client& client) {
  const std::string parent = protocol::paths::group_members(place_.domain, place_.volume);
  const std::string prefix = "m-" + place_.guid + "-";
  const std::uint64_t session = session_;
  co_await client.sync();
  const auto names = co_await client.children(parent);
  const bool there = names && std::any_of(names->begin(), names->end(), [&](const auto& name) {
                       return name.starts_with(prefix);
                     });
  if (session != session_ || stopping_) co_return;
  if (there) {
    // Ours of an earlier session that is not over yet, or of a create whose outcome was unknown.
    for (const std::string& name : *names) {
      if (!name.starts_with(prefix)) continue;
      const auto node = co_await client.get(parent + "/" + name);
      if (node && node->stat.ephemeral_owner == client.session_id()) joined_ = true;
    }
    if (joined_ || session != session_ || stopping_) co_return;
  }
  coordination::CreateOptions options;
  options.ephemeral = true;
  options.sequential = true;
  co_await client.create(parent + "/" + prefix, place_.service, options);
  joined_ = true;
}

runtime::Task<void> GroupWatch::read_record(coordination::Client& client) {
  record_stale_ = false;  // a change from now on makes it so again
  std::optional<coordination::Node> node;
  try {
    node = co_await client.get(group_path_, on_change(record_stale_), record_watch_);
  } catch (...) {
    record_stale_ = true;
    throw;
  }
  record_.reset();
  if (!node) co_return;
  record_ = protocol::GroupRecord::from_json(node->data);
  record_version_ = node->stat.version;
}

runtime::Task<void> GroupWatch::read_holders(coordination::Client& client, Listing& listing) {
  listing.stale = false;
  std::map<std::string, coordination::Node> known;
  std::vector<replication::Holder> holders;
  try {
    auto names = co_await client.children(listing.parent, on_change(listing.stale), listing.watch);
    if (!names) names.emplace();
    std::sort(names->begin(), names->end(),
              [](const auto& a, const auto& b) { return sequence_of(a) < sequence_of(b); });
    for (const std::string& name : *names) {
      std::optional<coordination::Node> node;
      const auto before = listing.known.find(name);
      if (before != listing.known.end()) {
        node = before->second;
      } else {
        node = co_await client.get(listing.parent + "/" + name);
      }
      if (!node) continue;  // gone since; the watch will tell
      const bool mine = node->stat.ephemeral_owner == client.session_id() &&
                        name.find(place_.guid) != std::string::npos;
      holders.push_back({listing.parent + "/" + name, node->data, mine});
      known.emplace(name, *std::move(node));
    }
  } catch (...) {
    listing.stale = true;
    throw;
  }
  listing.known = std::move(known);
  listing.holders = std::move(holders);
}

runtime::Task<void> GroupWatch::refresh(coordination::Client& client) {
  const std::uint64_t session = session_;
  const runtime::Mutex::Holder turn = co_await refreshing_.lock();
  if (session != session_ || stopping_) co_return;
  if (record_stale_) co_await read_record(client);
  if (session != session_) co_return;
  if (members_.stale) co_await read_holders(client, members_);
  if (session != session_) co_return;
  if (locks_.stale) co_await read_holders(client, locks_);
  if (session != session_ || stopping_) co_return;
  replication::View view;
  view.members = members_.holders;
  view.locks = locks_.holders;
  view.record = record_;
  if (record_) view.record_version = record_version_;
  view.connected = client.state() == coordination::SessionState::connected;
  last_view_ = view;
  on_view_(std::move(view));
}

void GroupWatch::perform(replication::Coordinate request) {
  if (stopping_ || client_ == nullptr) {
    loop_.post([this, number = request.number] {
      if (!stopping_) on_result_({number, Outcome::refused, "", 0});
    });
    return;
  }
  tasks_.spawn(carry_out(std::move(request)));
}

// The outcome is told after a view at least as new as it; while it is unknown and coordination is
// away, that is waited for.
runtime::Task<void> GroupWatch::carry_out(replication::Coordinate request) {
  const std::uint64_t session = session_;
  Result result;
  try {
    result = co_await execute(*client_, request);
  } catch (const Error& error) {
    result = {request.number, outcome_of(error.code()), "", 0};
    log_.debug("group.coordination_refused", {{"code", name(error.code())}}, error.what());
    all_stale();
  }
  while (session == session_ && !stopping_) {
    bool read = false;
    try {
      if (result.outcome == Outcome::unknown) co_await client_->sync();
      if (session == session_) co_await refresh(*client_);
      read = true;
    } catch (const Error& error) {
      log_.debug("group.coordination", {}, error.what());
    }
    if (!read && session == session_ && !stopping_) report_away();
    if (read || result.outcome != Outcome::unknown) break;
    runtime::Timer pause(loop_);
    co_await pause.sleep_for(kRetry);
  }
  if (stopping_) co_return;
  if (session != session_)
    result.outcome = Outcome::refused;  // what it made is ephemeral, and gone
  on_result_(result);
}

runtime::Task<GroupWatch::Result> GroupWatch::execute(coordination::Client& client,
                                                      replication::Coordinate request) {
  Result result{request.number, Outcome::done, "", 0};
  std::vector<coordination::Operation> steps;
  if (const auto* take = std::get_if<replication::TakeLock>(&request.request)) {
    if (!take->dead.empty()) {
      steps.push_back(coordination::Delete{take->dead, coordination::kAnyVersion});
    }
    coordination::CreateOptions options;
    options.ephemeral = true;
    options.sequential = true;
    const std::string locks = protocol::paths::group_locks(place_.domain, place_.volume);
    steps.push_back(
        coordination::Create{locks + "/l-" + place_.guid + "-", place_.service, options});
    const std::size_t create = steps.size() - 1;
    if (take->raised) {
      steps.push_back(
          coordination::Set{group_path_, take->raised->to_json(), take->expected_version});
    }
    const auto done = co_await client.multi(std::move(steps));
    result.path = done[create].created_path;
    if (take->raised) result.version = done.back().version;
  } else if (const auto* release = std::get_if<replication::ReleaseLock>(&request.request)) {
    co_await client.remove(release->path);
  } else {
    const auto& write = std::get<replication::WriteRecord>(request.request);
    steps.push_back(coordination::Check{write.lock, coordination::kAnyVersion});
    steps.push_back(coordination::Set{group_path_, write.record.to_json(), write.expected_version});
    if (write.release) {
      steps.push_back(coordination::Delete{write.lock, coordination::kAnyVersion});
    }
    const auto done = co_await client.multi(std::move(steps));
    result.version = done[1].version;
  }
  co_return result;
}

runtime::Task<void> GroupWatch::stop() {
  // The member node goes with the orderly end of the session, or here; others need not wait for it:
  // they hear the connection close.
  coordination::Client* client = client_;
  stopping_ = true;
  ++session_;
  changed_.set();
  retry_.cancel();
  co_await tasks_.close();
  drop_watches();
  if (client == nullptr) co_return;
  for (const std::string& parent : {protocol::paths::group_members(place_.domain, place_.volume),
                                    protocol::paths::group_locks(place_.domain, place_.volume)}) {
    try {
      const auto names = co_await client->children(parent);
      if (!names) continue;
      for (const std::string& name : *names) {
        if (name.find(place_.guid) == std::string::npos) continue;
        co_await client->remove(parent + "/" + name);
      }
    } catch (const Error& error) {
      log_.debug("group.leave", {}, error.what());
    }
  }
}

}  // namespace datom::volume
