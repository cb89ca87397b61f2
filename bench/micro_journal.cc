// The journal's append: so many 4 KiB writes a batch, per entry. What is behind is trimmed as a
// checkpoint would, so that segments come and go.
#include <benchmark/benchmark.h>

#include "bench/micro_place.h"
#include "journal/journal.h"

namespace datom::bench {
namespace {

constexpr std::uint64_t kVolumeBytes = 1 << 30;
constexpr std::uint64_t kKeptBytes = 32 << 20;
constexpr std::int64_t kBatchesBetweenTrims = 512;
constexpr std::size_t kWarmUpBatches = 32;
constexpr std::size_t kWarmUpEntries = 512;

runtime::Task<void> append(journal::Journal* journal, protocol::EntryBatch batch) {
  for (const protocol::EntryHeader& header : batch.headers) {
    co_await journal->reserve(header.frame_bytes());
  }
  co_await journal->append(std::move(batch));
}

// What the first appends pay for: the space that is reserved ahead.
template <typename Place>
void warm_up(Place& place, journal::Journal& journal, const Buffer& payload) {
  runtime::SeededRandom random(2);
  for (std::size_t i = 0; i < kWarmUpBatches; ++i) {
    place.run(append(&journal,
                     write_batch(journal.last(), kWarmUpEntries, payload, random, kVolumeBytes)));
  }
  place.run(journal.trim_through(journal.last().op, kKeptBytes));
}

template <typename Place>
void journal_append(benchmark::State& state) {
  const auto entries = static_cast<std::size_t>(state.range(0));
  Place place;
  const std::string folder = place.folder() + "/journal";
  place.run(journal::Journal::create(place.files(), folder, kVolume, {}, {}));
  auto journal =
      result_of(place, journal::Journal::open(place.files(), place.loop(), folder, kVolume, {}));
  const Buffer payload = content(kBlockSize);
  warm_up(place, *journal, payload);
  runtime::SeededRandom random(1);
  std::int64_t batches = 0;
  for (auto _ : state) {
    state.PauseTiming();
    protocol::EntryBatch batch =
        write_batch(journal->last(), entries, payload, random, kVolumeBytes);
    if (++batches % kBatchesBetweenTrims == 0) {
      place.run(journal->trim_through(journal->last().op, kKeptBytes));
    }
    state.ResumeTiming();
    place.run(append(journal.get(), std::move(batch)));
  }
  place.run(journal->close());
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(journal_append<InMemory>)->Arg(1)->Arg(32);
BENCHMARK(journal_append<OnDisk>)->Arg(1)->Arg(32)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace datom::bench
