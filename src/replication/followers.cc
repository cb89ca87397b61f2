#include "replication/followers.h"

#include <algorithm>
#include <functional>

#include "replication/election.h"

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

Followers::Followers(const std::vector<protocol::ReplicaRecord>& voters, const Uuid& self,
                     EntryId last, Instant now)
    : voters_(voters.size()) {
  for (const protocol::ReplicaRecord& voter : voters) {
    if (voter.replica == self) continue;
    Follower& follower = followers_[voter.replica];
    follower.replica = voter;
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

std::size_t Followers::functional() const {
  return 1 + static_cast<std::size_t>(
                 std::count_if(followers_.begin(), followers_.end(),
                               [](const auto& item) { return item.second.functional; }));
}

template <typename Value, typename Get>
Value Followers::on_quorum(Value own, Get get) const {
  std::vector<Value> values{own};
  for (const auto& [uuid, follower] : followers_) values.push_back(get(follower));
  std::sort(values.begin(), values.end(), std::greater<>());
  return values[quorum(voters_) - 1];
}

Op Followers::durable_on_quorum(Op own_durable) const {
  return on_quorum(own_durable, [](const Follower& f) { return f.functional ? f.acked : Op(0); });
}

std::uint64_t Followers::confirmed_round(std::uint64_t newest) const {
  return on_quorum(newest, [](const Follower& f) { return f.round; });
}

Instant Followers::quorum_heard(Instant now) const {
  return on_quorum(now, [](const Follower& f) { return f.heard; });
}

}  // namespace datom::replication
