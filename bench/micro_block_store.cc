// The block store: entries of the journal applied, and blocks read with their checksums verified.
#include <benchmark/benchmark.h>

#include "bench/micro_place.h"
#include "block_store/block_store.h"

namespace datom::bench {
namespace {

constexpr std::uint64_t kStoreBytes = 256 << 20;
constexpr std::size_t kFillBytes = 1 << 20;
constexpr std::size_t kMaxDirtyBytes = 8 << 20;

// A store that was written all over.
template <typename Place>
class Filled {
 public:
  Filled() {
    const std::string folder = place.folder() + "/store";
    place.run(place.files().make_directories(folder));
    place.run(block_store::BlockStore::format(place.files(), folder, kStoreBytes,
                                              block_store::ReplicaState{}));
    store =
        result_of(place, block_store::BlockStore::open(place.files(), place.loop(), folder, {}));
    const Buffer payload = content(kFillBytes);
    for (std::uint64_t offset = 0; offset < kStoreBytes; offset += kFillBytes) {
      protocol::Entry entry;
      entry.header.kind = protocol::EntryKind::write;
      entry.header.op = store->applied_op().next();
      entry.header.offset = offset;
      entry.header.length = kFillBytes;
      entry.header.payload_length = kFillBytes;
      entry.payload = payload;
      place.run(store->apply({entry}));
    }
    place.run(store->checkpoint(store->state()));
  }
  ~Filled() { place.run(store->close()); }
  Filled(const Filled&) = delete;
  Filled& operator=(const Filled&) = delete;

  Place place;
  std::unique_ptr<block_store::BlockStore> store;
};

// So many 4 KiB writes at random places at once; per entry.
template <typename Place>
void store_apply(benchmark::State& state) {
  Filled<Place> filled;
  block_store::BlockStore& store = *filled.store;
  const auto entries = static_cast<std::size_t>(state.range(0));
  const Buffer payload = content(kBlockSize);
  runtime::SeededRandom random(1);
  for (auto _ : state) {
    state.PauseTiming();
    if (store.dirty_bytes() > kMaxDirtyBytes) filled.place.run(store.checkpoint(store.state()));
    const protocol::EntryBatch batch =
        write_batch({Term(1), store.applied_op()}, entries, payload, random, kStoreBytes);
    std::vector<protocol::Entry> taken = entries_of(batch);
    state.ResumeTiming();
    filled.place.run(store.apply(std::move(taken)));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(store_apply<InMemory>)->Arg(1)->Arg(32);
BENCHMARK(store_apply<OnDisk>)->Arg(1)->Arg(32)->MeasureProcessCPUTime()->UseRealTime();

template <typename Place>
void store_read(benchmark::State& state) {
  Filled<Place> filled;
  const auto bytes = static_cast<std::uint64_t>(state.range(0));
  runtime::SeededRandom random(1);
  for (auto _ : state) {
    const std::uint64_t offset = random.next() % (kStoreBytes / bytes) * bytes;
    benchmark::DoNotOptimize(result_of(filled.place, filled.store->read(offset, bytes)));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(store_read<InMemory>)->Arg(kBlockSize)->Arg(1 << 20);
BENCHMARK(store_read<OnDisk>)
    ->Arg(kBlockSize)
    ->Arg(1 << 20)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace datom::bench
