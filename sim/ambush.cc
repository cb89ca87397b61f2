#include "sim/ambush.h"

#include <variant>

#include "protocol/entry.h"
#include "protocol/records.h"

namespace datom::sim {

using protocol::GroupMessage;
using runtime::Task;
using namespace std::chrono_literals;

namespace {

bool opens_session(const Uuid& volume, const Buffer& entries) {
  for (std::size_t at = 0; at + protocol::kEntryHeaderBytes <= entries.size();) {
    const auto header = protocol::decode_header(entries.view().subspan(at), volume);
    if (!header) return false;  // padding
    if (header->kind == protocol::EntryKind::attach) return true;
    at += header->frame_bytes();
  }
  return false;
}

}  // namespace

Ambushes::Ambushes(std::uint64_t seed, const Faults& faults, Domain& domain, Chaos& chaos,
                   Verdict& verdict)
    : domain_(domain),
      chaos_(chaos),
      verdict_(verdict),
      many_(faults.ambushes),
      linger_(faults.lingering),
      random_(stream(seed, FaultClass::ambush, 1)),
      tasks_(domain.loop, [&verdict](std::exception_ptr error) { verdict.task_failed(error); }) {}

runtime::Duration Ambushes::up_to(runtime::Duration most) {
  return runtime::Duration(random_.below(static_cast<std::uint64_t>(most.count())));
}

// What the moment is best for.
void Ambushes::aim(Strike& strike, Moment moment) {
  switch (moment) {
    case Moment::probes:  // who asks, or is answered, is about to write to coordination
    case Moment::configures:
      strike.sender = true;
      strike.deed = Deed::uncoordinated;
      break;
    case Moment::sealed:
    case Moment::in_step:
      strike.sender = false;
      strike.deed = Deed::uncoordinated;
      break;
    case Moment::named:  // the process that comes after it hears of it, before anybody is elected
      strike.deed = Deed::crash;
      strike.crash = Crash::late;
      strike.after = 0ms;
      strike.how_long = 400ms + strike.how_long / 6;
      strike.away = 0ms;
      break;
    case Moment::appends:  // a leader at work: whether it goes on serving reads
      strike.sender = true;
      strike.deed = Deed::island;
      break;
    default:
      break;
  }
}

Ambushes::Strike Ambushes::draw_strike(Moment moment) {
  Strike one;
  one.sender = random_.below(2) == 0 && moment != Moment::named;  // few are: most name themselves
  one.deed = static_cast<Deed>(random_.below(kDeeds));
  const bool at_once = random_.below(2) == 0;
  one.after = up_to(at_once ? 2ms : 80ms);
  const bool is_short = random_.below(2) == 0;
  one.how_long = up_to(is_short ? (one.deed == Deed::island ? 1s : 300ms) : 3s);
  const bool back_soon = random_.below(4) != 0;
  one.away = back_soon ? one.how_long / 8 : one.how_long;
  const runtime::Duration linger = up_to(6s);
  if (linger_) one.linger = linger;
  one.crash = static_cast<Crash>(random_.below(4));
  one.alone = random_.below(3) == 0;
  one.told = random_.below(2) == 0;
  one.spared = random_.next();
  if (random_.below(4) == 0) aim(one, moment);
  return one;
}

// A leader's last entries reach one of the others: who then is elector names that one.
std::vector<Ambushes::Strike> Ambushes::uneven_end() {
  std::vector<Strike> both(2, draw_strike(Moment::appends));
  for (Strike& one : both) one.sender = true;
  both[0].deed = Deed::hold;
  both[0].after = 0ms;
  both[1].deed = Deed::crash;
  both[1].crash = Crash::heard;
  return both;
}

void Ambushes::lay(runtime::Duration full, runtime::Duration part) {
  for (int i = 0; i < many_; ++i) {
    Ambush one;
    const runtime::Duration from = up_to(full);
    one.from = domain_.loop.now() + from;
    one.moment = static_cast<Moment>(random_.below(kMoments));
    one.left = random_.below(one.moment == Moment::appends ? 300 : 2);
    if (one.moment == Moment::named) one.left = 0;
    one.strikes.push_back(draw_strike(one.moment));
    if (random_.below(5) < 2) one.strikes.push_back(draw_strike(one.moment));
    if (one.moment == Moment::appends && random_.below(3) == 0) one.strikes = uneven_end();
    if (from < part) laid_.push_back(std::move(one));
  }
}

std::set<Ambushes::Moment> Ambushes::moments_of(const GroupMessage& message,
                                                const Buffer& entries) {
  std::set<Moment> moments;
  if (message.config_epoch > config_epoch_) {
    config_epoch_ = message.config_epoch;
    moments.insert(Moment::configures);
  }
  if (std::holds_alternative<protocol::Probe>(message.body)) {
    moments.insert(Moment::probes);
  } else if (std::holds_alternative<protocol::Seal>(message.body)) {
    moments.insert(Moment::seals);
  } else if (const auto* seal = std::get_if<protocol::SealReply>(&message.body)) {
    if (seal->sealed) moments.insert(Moment::sealed);
  } else if (std::holds_alternative<protocol::BecomeLeader>(message.body)) {
    moments.insert(Moment::named);
  } else if (const auto* append = std::get_if<protocol::Append>(&message.body)) {
    if (led_.insert(message.term).second) {
      moments.insert(Moment::leads);
      first_[message.term] = append->leader_last.op.next();
    }
    if (append->commit >= first_[message.term] && served_.insert(message.term).second) {
      moments.insert(Moment::serves);
    }
    if (!entries.empty()) moments.insert(Moment::appends);
    if (opens_session(message.volume, entries)) moments.insert(Moment::attaches);
  } else if (const auto* reply = std::get_if<protocol::AppendReply>(&message.body)) {
    const auto who = std::pair(message.term, message.from);
    if (answered_.insert(who).second) moments.insert(Moment::answers);
    if (reply->functional && in_step_.insert(who).second) moments.insert(Moment::in_step);
  }
  return moments;
}

std::optional<std::size_t> Ambushes::server_of(const Uuid& replica) const {
  const protocol::GroupRecord& record = domain_.record;
  std::string service;
  for (const auto* set : {&record.voters, &record.next_voters}) {
    for (const protocol::ReplicaRecord& one : *set) {
      if (one.replica == replica) service = one.service;
    }
  }
  for (const protocol::LearnerRecord& one : record.learners) {
    if (one.member.replica == replica) service = one.member.service;
  }
  for (std::size_t at = 0; at < domain_.servers.size(); ++at) {
    if (domain_.servers[at]->name() == service) return at;
  }
  return std::nullopt;
}

void Ambushes::sent(const rpc::Message& carried) {
  if (laid_.empty() || closed_) return;
  const GroupMessage message = protocol::decode_group_message(carried.header);
  const std::set<Moment> moments = moments_of(message, carried.payload);
  for (std::size_t i = 0; i < laid_.size();) {
    Ambush& ambush = laid_[i];
    if (!moments.contains(ambush.moment) || domain_.loop.now() < ambush.from || ambush.left-- > 0) {
      ++i;
      continue;
    }
    const auto from = server_of(message.from);
    const auto to = server_of(message.to);
    for (const Strike& one : ambush.strikes) {
      if (from && to) strike(one, one.sender ? *from : *to, one.sender ? *to : *from);
    }
    laid_.erase(laid_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void Ambushes::strike(const Strike& strike, std::size_t at, std::size_t other) {
  switch (strike.deed) {
    case Deed::crash:
      tasks_.spawn(crash(strike, at));
      break;
    case Deed::freeze:
      verdict_.count("ambush: freeze");
      tasks_.spawn(chaos_.freeze(strike.after, at, strike.how_long));
      break;
    case Deed::cut:
      tasks_.spawn(cut(strike, at, other));
      break;
    case Deed::hold:
      tasks_.spawn(hold(strike, at));
      break;
    case Deed::island:
      tasks_.spawn(island(strike, at));
      break;
    case Deed::stall:
      tasks_.spawn(stall(strike, at));
      break;
    case Deed::sever:
      tasks_.spawn(sever(strike, at));
      break;
    case Deed::uncoordinated:
      verdict_.count("ambush: coordination cut");
      tasks_.spawn(chaos_.cut_coordination(strike.after, at, strike.how_long));
      break;
  }
}

void Ambushes::separate(std::size_t at, bool both_ways, bool apart) {
  const std::string& name = domain_.servers[at]->name();
  for (const auto& other : domain_.servers) {
    if (other->name() == name) continue;
    for (const auto& [from, to] :
         {std::pair(name, other->name()), std::pair(other->name(), name)}) {
      if (from != name && !both_ways) continue;
      apart ? domain_.network.cut(from, to) : domain_.network.mend(from, to);
    }
  }
}

void Ambushes::hold_back(std::size_t at, bool what_it_sends, runtime::Duration how_long) {
  const std::string& name = domain_.servers[at]->name();
  for (const auto& other : domain_.servers) {
    const std::string& from = what_it_sends ? name : other->name();
    const std::string& to = what_it_sends ? other->name() : name;
    if (from != to) domain_.network.clog(from, to, domain_.loop.now() + how_long);
  }
}

void Ambushes::break_connections(std::size_t at) {
  const std::string& name = domain_.servers[at]->name();
  for (const auto& other : domain_.servers) {
    if (other->name() != name) domain_.network.sever(name, other->name());
  }
}

// Back soon, often before anybody else leads.
Task<void> Ambushes::crash(Strike strike, std::size_t at) {
  verdict_.count("ambush: crash");
  if (strike.crash == Crash::held) hold_back(at, true, strike.how_long);
  if (strike.crash == Crash::late) hold_back(at, false, strike.how_long);
  co_await domain_.pause(strike.after);
  if (strike.crash == Crash::unheard) separate(at, false, true);
  co_await chaos_.crash(0s, at, strike.away, strike.linger);
  if (strike.crash == Crash::unheard) separate(at, false, false);
}

// The link between the two, one way.
Task<void> Ambushes::cut(Strike strike, std::size_t at, std::size_t other) {
  verdict_.count("ambush: cut");
  std::vector<Chaos::Link> links(1, {at, other});
  std::vector<runtime::Duration> how_long(1, strike.how_long);
  co_await chaos_.partition(strike.after, std::move(links), std::move(how_long));
}

// What it sends is held back, but for what it sends to one of them.
Task<void> Ambushes::hold(Strike strike, std::size_t at) {
  verdict_.count("ambush: held back");
  const std::size_t many = domain_.servers.size();
  const std::size_t spared = (at + 1 + strike.spared % (many - 1)) % many;
  for (std::size_t to = 0; to < many; ++to) {
    if (to == at || to == spared) continue;
    co_await chaos_.clog(std::exchange(strike.after, 0s), {at, to}, strike.how_long);
  }
}

// It is cut off, and what was sent to it last arrives long after that.
Task<void> Ambushes::island(Strike strike, std::size_t at) {
  verdict_.count("ambush: island");
  hold_back(at, false, strike.how_long);
  co_await domain_.pause(strike.after);
  separate(at, true, true);
  if (strike.told) break_connections(at);
  const runtime::Time until = domain_.loop.now() + strike.how_long + 1s;
  if (strike.alone) co_await chaos_.cut_coordination(0s, at, strike.how_long);
  co_await domain_.until(until);
  separate(at, true, false);
}

Task<void> Ambushes::stall(Strike strike, std::size_t at) {
  co_await domain_.pause(strike.after);
  verdict_.count("ambush: stall");
  domain_.servers[at]->disk().stall(domain_.loop.now() + strike.how_long / 10);
}

// Nothing is lost but the connections: each side takes the other one for gone, and it lives.
Task<void> Ambushes::sever(Strike strike, std::size_t at) {
  co_await domain_.pause(strike.after);
  verdict_.count("ambush: connections broken");
  break_connections(at);
}

Task<void> Ambushes::close() {
  closed_ = true;
  co_await tasks_.close();
}

}  // namespace datom::sim
