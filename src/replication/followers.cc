#include "replication/followers.h"

#include <algorithm>
#include <utility>

namespace datom::replication {

void Follower::sent(Op last_op, std::size_t bytes) {
  in_flight.emplace_back(last_op, bytes);
  in_flight_bytes += bytes;
  next = last_op.next();
}

void Follower::ack(Op op) {
  acked = std::max(acked, op);
  while (!in_flight.empty() && in_flight.front().first <= acked) {
    in_flight_bytes -= in_flight.front().second;
    in_flight.pop_front();
  }
}

void Follower::resume_at(Op op) {
  next = op;
  in_flight.clear();
  in_flight_bytes = 0;
}

Followers::Followers(Config config, const Uuid& self, EntryId last, Instant now) : self_(self) {
  reconfigure(std::move(config), last, now);
}

void Followers::reconfigure(Config config, EntryId last, Instant now) {
  config_ = std::move(config);
  std::erase_if(followers_,
                [this](const auto& item) { return config_.member(item.first) == nullptr; });
  for (const ReplicaRecord& member : config_.members()) {
    if (member.replica == self_ || followers_.contains(member.replica)) continue;
    Follower& follower = followers_[member.replica];
    follower.replica = member;
    follower.next = last.op.next();
    follower.heard = now;
  }
}

Follower* Followers::find(const Uuid& replica) {
  const auto found = followers_.find(replica);
  return found == followers_.end() ? nullptr : &found->second;
}

Follower* Followers::find_service(const std::string& service) {
  for (auto& [uuid, follower] : followers_) {
    if (follower.replica.service == service) return &follower;
  }
  return nullptr;
}

bool Followers::quorum_functional() const {
  return config_.quorum_has([this](const Uuid& replica) {
    return replica == self_ || followers_.at(replica).functional;
  });
}

template <typename Value, typename Get>
Value Followers::on_quorum(Value own, Get get) const {
  return config_.on_quorum<Value>(
      [&](const Uuid& replica) { return replica == self_ ? own : get(followers_.at(replica)); });
}

Op Followers::durable_on_quorum(Op own_durable) const {
  return on_quorum(own_durable, [](const Follower& f) { return f.functional ? f.counted : Op(0); });
}

std::uint64_t Followers::confirmed_round(std::uint64_t newest) const {
  return on_quorum(newest, [](const Follower& f) { return f.round; });
}

Instant Followers::quorum_heard(Instant now) const {
  return on_quorum(now, [](const Follower& f) { return f.heard; });
}

Instant Followers::quorum_echo(Instant now) const {
  return on_quorum(now, [](const Follower& f) { return f.echo; });
}

}  // namespace datom::replication
