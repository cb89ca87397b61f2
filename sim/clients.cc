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
constexpr std::size_t kUnderWay = 4;  // requests of a client at once
constexpr runtime::Duration kLook = 2ms;

// A block that bears its number in every word: a torn or mixed one shows.
Buffer block_of(Value value) {
  Buffer block = Buffer::allocate(kBlockSize);
  for (std::size_t at = 0; at < kBlockSize; at += 8) store_le(block.mutable_data() + at, value);
  return block;
}

std::optional<Value> value_of(const std::byte* block) {
  const auto value = load_le<Value>(block);
  for (std::size_t at = 0; at < kBlockSize; at += 8) {
    if (load_le<Value>(block + at) != value) return std::nullopt;
  }
  return value;
}

}  // namespace

// One connection to one process of a server.
struct Clients::Attachment {
  Attachment(Domain& domain, Verdict& verdict, std::size_t at_)
      : at(at_),
        incarnation(domain.servers[at_]->incarnation()),
        requests(domain.loop,
                 [&verdict](std::exception_ptr error) { verdict.task_failed(error); }) {}
  std::size_t at;
  std::uint64_t incarnation;
  std::unique_ptr<volume::VolumeClient> client;
  runtime::TaskGroup requests;
};

Clients::Clients(std::uint64_t seed, Domain& domain, History& history, Verdict& verdict)
    : domain_(domain),
      history_(history),
      verdict_(verdict),
      random_(stream(seed, "clients")),
      tasks_(domain.loop, [&verdict](std::exception_ptr error) { verdict.task_failed(error); }) {}

void Clients::start() {
  for (std::size_t i = 0; i < kClients; ++i) tasks_.spawn(client());
}

bool Clients::alive(const Attachment& attachment) const {
  const Server& server = *domain_.servers[attachment.at];
  return server.up() && server.incarnation() == attachment.incarnation;
}

Task<void> Clients::client() {
  while (!finishing_) {
    const std::size_t at = random_.below(kServers);
    if (domain_.servers[at]->up()) {
      ++attached_[at];
      co_await attach(at);
      --attached_[at];
    } else {
      co_await domain_.pause(50ms);
    }
  }
}

Task<void> Clients::attach(std::size_t server) {
  Attachment attachment(domain_, verdict_, server);
  try {
    attachment.client = co_await domain_.servers[server]->volumes().attach(kVolume);
  } catch (const Error&) {
  }
  if (!attachment.client) {
    co_await domain_.pause(50ms);
    co_return;
  }
  co_await use(attachment);
  co_await attachment.client->close();
  co_await attachment.requests.close();
}

Task<void> Clients::use(Attachment& attachment) {
  const auto goes_on = [&] { return !finishing_ && alive(attachment); };
  runtime::TaskGroup& requests = attachment.requests;
  for (std::uint64_t left = 20 + random_.below(200); left > 0 && goes_on(); --left) {
    const bool reads = random_.below(100) < 40;
    const std::uint64_t first = random_.below(kBlocks);
    const std::uint64_t count = 1 + random_.below(std::min<std::uint64_t>(3, kBlocks - first));
    requests.spawn(reads ? read(attachment, first, count) : write(attachment, first, count));
    co_await domain_.pause(std::chrono::microseconds(random_.below(20000)));
    while (requests.running() >= kUnderWay && goes_on()) co_await domain_.pause(kLook);
  }
  // Some clients wait for their answers, some just go.
  const bool patient = random_.below(2) == 0;
  while (patient && requests.running() > 0 && alive(attachment)) co_await domain_.pause(kLook);
}

Task<void> Clients::write(Attachment& through, std::uint64_t first, std::uint64_t count) {
  Buffer data = Buffer::allocate(count * kBlockSize);
  std::vector<History::Handle> handles;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Value value = ++last_value_;
    std::memcpy(data.mutable_data() + i * kBlockSize, block_of(value).data(), kBlockSize);
    handles.push_back(history_.write_begins(first + i, value, now()));
  }
  bool done = false;
  try {
    co_await through.client->write(first * kBlockSize, std::move(data));
    done = true;
  } catch (const Error& error) {
    verdict_.trace(static_cast<std::uint64_t>(error.code()));
  }
  if (!done || !alive(through)) co_return;  // unknown: it may still happen
  for (const History::Handle handle : handles) history_.write_ends(handle, now());
  verdict_.trace(last_value_);
}

Task<void> Clients::read(Attachment& through, std::uint64_t first, std::uint64_t count) {
  const Moment begin = now();
  Buffer data;
  try {
    data = co_await through.client->read(first * kBlockSize,
                                         static_cast<std::uint32_t>(count * kBlockSize));
  } catch (const Error& error) {
    verdict_.trace(static_cast<std::uint64_t>(error.code()));
    if (error.code() == Code::corrupt) verdict_.fail(error.what());
  }
  if (data.empty() || !alive(through)) co_return;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::optional<Value> value = value_of(data.data() + i * kBlockSize);
    if (!value) {
      verdict_.fail(fmt::format("block {} was read with the content of several writes", first + i));
      co_return;
    }
    history_.read(first + i, *value, begin, now());
    verdict_.trace(*value);
  }
}

Task<void> Clients::read_everything(std::size_t server) {
  Attachment attachment(domain_, verdict_, server);
  attachment.client = co_await domain_.servers[server]->volumes().attach(kVolume);
  for (std::uint64_t block = 0; block < kBlocks; ++block) co_await read(attachment, block, 1);
  co_await attachment.client->close();
}

}  // namespace datom::sim
