#include "sim/clients.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "common/error.h"

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kClients = 4;
constexpr std::uint64_t kHotBlocks = 6;
constexpr std::size_t kUnderWay = 4;  // writes of a client at once, and as many reads
constexpr runtime::Duration kLook = 2ms;
constexpr runtime::Duration kPatience = 5s;  // with a server that does not take it
constexpr int kFinalTries = 50;              // of a client that gives up, when all is well
constexpr runtime::Duration kStuck = 300ms;  // so often it asks again while it gets no answers

// A block that bears its number in every word: a torn or mixed one shows.
Buffer block_of(Value value) {
  Buffer block = Buffer::allocate(kBlockSize);
  for (std::size_t at = 0; at < kBlockSize; at += 8) store_le(block.mutable_data() + at, value);
  return block;
}

}  // namespace

std::optional<Value> value_of(const std::byte* block) {
  const auto value = load_le<Value>(block);
  for (std::size_t at = 0; at < kBlockSize; at += 8) {
    if (load_le<Value>(block + at) != value) return std::nullopt;
  }
  return value;
}

// One connection to one process of a server.
struct Clients::Attachment {
  Attachment(Domain& domain, Verdict& verdict, std::size_t at_)
      : at(at_),
        incarnation(domain.servers[at_]->incarnation()),
        requests(domain.loop,
                 [&verdict](std::exception_ptr error) { verdict.task_failed(error); }) {}
  std::size_t at;
  std::uint64_t incarnation;
  bool opening = true;
  bool left = false;  // the client is gone: it hears no answers any more
  std::unique_ptr<volume::VolumeClient> client;
  Session* session = nullptr;
  std::size_t reading = 0;
  std::size_t writing = 0;
  std::vector<std::pair<Moment, History::Handle>> failed;  // writes that it was told of, and when
  runtime::TaskGroup requests;
};

Clients::Clients(std::uint64_t seed, bool exclusive, Domain& domain, History& history,
                 Verdict& verdict)
    : exclusive_(exclusive),
      domain_(domain),
      history_(history),
      verdict_(verdict),
      random_(stream(seed, "clients")),
      attached_(domain.servers.size()),
      tasks_(domain.loop, [&verdict](std::exception_ptr error) { verdict.task_failed(error); }) {}

void Clients::start() {
  for (std::size_t i = 0; i < kClients; ++i) tasks_.spawn(client());
}

bool Clients::alive(const Attachment& attachment) const {
  const Server& server = *domain_.servers[attachment.at];
  return server.up() && server.incarnation() == attachment.incarnation && !attachment.left;
}

Task<void> Clients::client() {
  while (!finishing_) {
    const std::size_t at = random_.below(domain_.servers.size());
    if (domain_.servers[at]->up()) {
      co_await attach(at);
    } else {
      co_await domain_.pause(50ms);
    }
  }
}

// The client is another machine: what it asks waits for the server's process to take it, and its
// answers come from there.
Task<void> Clients::attach(std::size_t server) {
  auto attachment = std::make_unique<Attachment>(domain_, verdict_, server);
  ++attached_[server];
  attachment->session = &sessions_.emplace_back();
  tasks_.spawn(open(*attachment));
  co_await until_opened(*attachment);
  if (attachment->client && alive(*attachment)) co_await use(*attachment);
  attachment->left = true;
  tasks_.spawn(leave(std::move(attachment)));
}

Task<void> Clients::open(Attachment& attachment) {
  co_await runtime::switch_to(domain_.servers[attachment.at]->loop());
  if (alive(attachment)) {
    try {
      attachment.client = co_await domain_.servers[attachment.at]->volumes().attach(kVolume);
    } catch (const Error&) {
    }
  }
  co_await runtime::switch_to(domain_.loop);
  attachment.opening = false;
}

Task<void> Clients::until_opened(const Attachment& attachment) {
  const runtime::Time limit = domain_.loop.now() + kPatience;
  while (attachment.opening && domain_.loop.now() < limit) co_await domain_.pause(kLook);
  if (!attachment.client) co_await domain_.pause(50ms);
}

// Its connection breaks; the process notices once it gets to it.
Task<void> Clients::leave(std::unique_ptr<Attachment> attachment) {
  while (attachment->opening) co_await domain_.pause(kLook);
  co_await runtime::switch_to(domain_.servers[attachment->at]->loop());
  if (attachment->client) co_await attachment->client->close();
  co_await runtime::switch_to(domain_.loop);
  co_await attachment->requests.close();
  --attached_[attachment->at];
}

Task<void> Clients::use(Attachment& attachment) {
  const auto goes_on = [&] { return !finishing_ && alive(attachment); };
  runtime::TaskGroup& requests = attachment.requests;
  const runtime::Duration patience = std::chrono::milliseconds(500 + random_.below(8000));
  for (std::uint64_t left = 20 + random_.below(200); left > 0 && goes_on(); --left) {
    // While writes wait for a quorum, reads go on: a leader that is none any more must not serve
    // them.
    const bool reads = random_.below(100) < 40 || attachment.writing >= kUnderWay;
    const std::uint64_t first = block();
    const std::uint64_t count = 1 + random_.below(std::min<std::uint64_t>(3, kBlocks - first));
    requests.spawn(reads ? read(attachment, first, count) : write(attachment, first, count));
    co_await domain_.pause(std::chrono::microseconds(random_.below(20000)));
    const runtime::Time limit = domain_.loop.now() + patience;
    runtime::Time again = domain_.loop.now() + kStuck;
    while (attachment.reading >= kUnderWay && goes_on()) {
      co_await domain_.pause(kLook);
      if (domain_.loop.now() > limit) co_return;
      if (domain_.loop.now() < again) continue;
      again += kStuck;
      requests.spawn(read(attachment, block(), 1));
    }
  }
  // Some clients wait for their answers, and read meanwhile, some just go.
  const bool waits = random_.below(2) == 0;
  runtime::Time again = domain_.loop.now();
  while (waits && requests.running() > 0 && alive(attachment)) {
    co_await domain_.pause(kLook);
    if (attachment.writing == 0 || finishing_ || domain_.loop.now() < again) continue;
    if (attachment.reading < kUnderWay) requests.spawn(read(attachment, block(), 1));
    again = domain_.loop.now() + std::chrono::microseconds(random_.below(100000));
  }
}

// Most are written all the time, some are left alone for long.
std::uint64_t Clients::block() {
  const bool cold = random_.below(12) == 0;
  return cold ? kHotBlocks + random_.below(kBlocks - kHotBlocks) : random_.below(kHotBlocks);
}

Task<void> Clients::write(Attachment& through, std::uint64_t first, std::uint64_t count) {
  Buffer data = Buffer::allocate(count * kBlockSize);
  std::vector<History::Handle> handles;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Value value = ++last_value_;
    std::memcpy(data.mutable_data() + i * kBlockSize, block_of(value).data(), kBlockSize);
    handles.push_back(history_.write_begins(first + i, value, now()));
  }
  Session& session = *through.session;
  const Moment begun = now();
  bool done = false;
  ++through.writing;
  co_await runtime::switch_to(domain_.servers[through.at]->loop());
  try {
    co_await through.client->write(first * kBlockSize, std::move(data));
    done = true;
  } catch (const Error& error) {
    verdict_.trace(static_cast<std::uint64_t>(error.code()));
    // A refusal, too, may have been that of a second attempt.
    const bool goes_on = error.code() != Code::unavailable && error.code() != Code::no_space;
    if (!goes_on) session.renewed = true;
  }
  co_await runtime::switch_to(domain_.loop);
  --through.writing;
  if (!done || !alive(through)) {  // unknown: it may still happen
    session.unknown.insert(session.unknown.end(), handles.begin(), handles.end());
    for (const History::Handle handle : handles) through.failed.emplace_back(now(), handle);
    co_return;
  }
  bound_failed_writes(through, begun);
  if (!session.opened) session.opened = now();
  session.answered.emplace_back(begun, now());
  for (const History::Handle handle : handles) history_.write_ends(handle, now());
  verdict_.trace(last_value_);
  // What was acknowledged and is not there is soon overwritten by somebody else.
  if (random_.below(3) == 0) co_await read(through, first, count);
}

Task<void> Clients::read(Attachment& through, std::uint64_t first, std::uint64_t count) {
  co_await try_read(through, first, count);
}

Task<bool> Clients::try_read(Attachment& through, std::uint64_t first, std::uint64_t count) {
  const Moment begin = now();
  Buffer data;
  ++through.reading;
  co_await runtime::switch_to(domain_.servers[through.at]->loop());
  try {
    data = co_await through.client->read(first * kBlockSize,
                                         static_cast<std::uint32_t>(count * kBlockSize));
  } catch (const Error& error) {
    verdict_.trace(static_cast<std::uint64_t>(error.code()));
    if (error.code() == Code::corrupt) verdict_.fail(error.what());
  }
  co_await runtime::switch_to(domain_.loop);
  --through.reading;
  if (data.empty() || !alive(through)) co_return false;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::optional<Value> value = value_of(data.data() + i * kBlockSize);
    if (!value) {
      verdict_.fail(fmt::format("block {} was read with the content of several writes", first + i));
      co_return false;
    }
    history_.read(first + i, *value, begin, now());
    last_values_[first + i] = *value;
    verdict_.trace(*value);
  }
  co_return true;
}

// Rule C4: of a write that failed the client does not know whether it happens; once one that it
// began afterwards has taken effect, it has happened or never will.
void Clients::bound_failed_writes(Attachment& attachment, Moment begun) {
  std::erase_if(attachment.failed, [&](const auto& failed) {
    const auto& [when, write] = failed;
    if (when > begun) return false;
    history_.takes_effect_by(write, now());
    return true;
  });
}

void Clients::bound_fenced_writes() {
  if (!exclusive_) return;
  for (const Session& fenced : sessions_) {
    if (!fenced.opened || fenced.renewed) continue;  // it is not known which session was first
    std::optional<Moment> by;
    for (const Session& other : sessions_) {
      if (&other == &fenced || other.renewed) continue;
      for (const auto& [asked, answered] : other.answered) {
        if (asked > *fenced.opened && (!by || answered < *by)) by = answered;
      }
    }
    if (!by) continue;
    for (const History::Handle write : fenced.unknown) history_.takes_effect_by(write, *by);
  }
}

Task<void> Clients::read_everything(std::size_t server) {
  Attachment attachment(domain_, verdict_, server);
  co_await open(attachment);
  for (std::uint64_t block = 0; block < kBlocks; ++block) {
    bool done = false;
    for (int tries = 0; !done && tries < kFinalTries; ++tries) {
      done = co_await try_read(attachment, block, 1);
      if (!done) co_await domain_.pause(100ms);
    }
    if (!done) verdict_.fail(fmt::format("block {} cannot be read though all is well", block));
  }
  co_await attachment.client->close();
}

}  // namespace datom::sim
