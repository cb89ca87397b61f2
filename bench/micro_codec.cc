// What is computed for every write, without any device: checksums, and messages made and parsed.
#include <benchmark/benchmark.h>

#include <array>

#include "bench/micro_place.h"
#include "common/checksum.h"
#include "nbd/request.h"
#include "nbd/wire.h"
#include "rpc/frame.h"
#include "rpc/frame_reader.h"

namespace datom::bench {
namespace {

constexpr std::uint64_t kVolumeBytes = 1 << 30;

void hash(benchmark::State& state) {
  const Buffer bytes = content(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(checksum(bytes.view()));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(hash)->Arg(40)->Arg(128)->Arg(4096)->Arg(1 << 20);

// A batch of so many 4 KiB writes: headers sealed, payloads hashed and copied. Per entry.
void entry_make_batch(benchmark::State& state) {
  const auto entries = static_cast<std::size_t>(state.range(0));
  const Buffer payload = content(kBlockSize);
  runtime::SeededRandom random(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(write_batch({}, entries, payload, random, kVolumeBytes));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(entry_make_batch)->Arg(1)->Arg(16)->Arg(32);

// What a follower does with it.
void entry_parse_batch(benchmark::State& state) {
  runtime::SeededRandom random(1);
  const protocol::EntryBatch batch = write_batch({}, static_cast<std::size_t>(state.range(0)),
                                                 content(kBlockSize), random, kVolumeBytes);
  for (auto _ : state) benchmark::DoNotOptimize(protocol::parse_batch(batch.bytes, kVolume));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(entry_parse_batch)->Arg(1)->Arg(16)->Arg(32);

rpc::Frame frame_of(std::size_t payload_bytes) {
  rpc::Frame frame;
  frame.kind = rpc::FrameKind::message;
  frame.method = 1;
  frame.message.header.assign(80, 'h');
  frame.message.payload = content(payload_bytes);
  return frame;
}

void rpc_encode_frame(benchmark::State& state) {
  const rpc::Frame frame = frame_of(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(rpc::encode_frame_header(frame));
}
BENCHMARK(rpc_encode_frame)->Arg(0)->Arg(kBlockSize)->Arg(32 * kBlockSize);

// Gives the same bytes again and again.
class Repeating final : public runtime::Stream {
 public:
  explicit Repeating(std::string bytes) : bytes_(std::move(bytes)) {}

  runtime::Task<std::size_t> read_some(MutableBytes into) override {
    const std::size_t count = std::min(into.size(), bytes_.size() - at_);
    std::memcpy(into.data(), bytes_.data() + at_, count);
    at_ = (at_ + count) % bytes_.size();
    co_return count;
  }
  runtime::Task<void> write(std::span<const ByteView>) override { co_return; }
  void close() override {}
  std::string peer() const override { return "memory"; }
  runtime::NativeSocket release() override { return runtime::NativeSocket(); }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

void rpc_read_frame(benchmark::State& state) {
  const rpc::Frame frame = frame_of(static_cast<std::size_t>(state.range(0)));
  const rpc::EncodedFrameHeader head = rpc::encode_frame_header(frame);
  std::string bytes(as_text(head));
  bytes += frame.message.header;
  bytes += as_text(frame.message.payload.view());
  Repeating stream(bytes);
  runtime::VirtualLoop loop;
  rpc::FrameReader reader(stream, {});
  for (auto _ : state) {
    std::optional<std::optional<rpc::Frame>> read;
    loop.run(keep(reader.next(), &read));
    benchmark::DoNotOptimize(read);
  }
}
BENCHMARK(rpc_read_frame)->Arg(0)->Arg(kBlockSize)->Arg(32 * kBlockSize);

void nbd_parse_request(benchmark::State& state) {
  std::array<std::byte, nbd::kRequestBytes> bytes{};
  const std::array<std::uint8_t, 8> begin = {0x25, 0x60, 0x95, 0x13, 0, 0, 0, 1};
  std::memcpy(bytes.data(), begin.data(), begin.size());
  bytes[26] = std::byte{0x10};  // 4 KiB at 0
  nbd::Session session;
  session.size = kVolumeBytes;
  for (auto _ : state) {
    const nbd::Request request = nbd::parse_request(bytes);
    benchmark::DoNotOptimize(nbd::refuse(request, session));
    benchmark::DoNotOptimize(nbd::payload_size(request));
  }
}
BENCHMARK(nbd_parse_request);

void nbd_make_reply(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(nbd::simple_reply(1, nbd::Errno::none));
}
BENCHMARK(nbd_make_reply);

}  // namespace
}  // namespace datom::bench
