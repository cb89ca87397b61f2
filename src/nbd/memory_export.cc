#include "nbd/memory_export.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/error.h"
#include "nbd/wire.h"

namespace datom::nbd {

using runtime::Task;

MemoryVolume::MemoryVolume(ExportInfo info) : info_(std::move(info)) {}

void MemoryVolume::read(std::uint64_t offset, MutableBytes into) const {
  DATOM_CHECK(offset <= info_.size && into.size() <= info_.size - offset);
  while (!into.empty()) {
    const std::uint64_t within = offset % kBlockSize;
    const std::size_t size = std::min<std::uint64_t>(into.size(), kBlockSize - within);
    const auto found = blocks_.find(offset / kBlockSize);
    if (found != blocks_.end() && found->second) {
      std::memcpy(into.data(), found->second.get() + within, size);
    } else {
      std::memset(into.data(), 0, size);
    }
    offset += size;
    into = into.subspan(size);
  }
}

void MemoryVolume::write(std::uint64_t offset, ByteView from) {
  DATOM_CHECK(offset <= info_.size && from.size() <= info_.size - offset);
  while (!from.empty()) {
    const std::uint64_t within = offset % kBlockSize;
    const std::size_t size = std::min<std::uint64_t>(from.size(), kBlockSize - within);
    std::memcpy(data_of(offset / kBlockSize) + within, from.data(), size);
    offset += size;
    from = from.subspan(size);
  }
}

void MemoryVolume::trim(std::uint64_t offset, std::uint64_t length) {
  const auto [first, end] = whole_blocks(offset, length);
  blocks_.erase(blocks_.lower_bound(first), blocks_.lower_bound(end));
}

void MemoryVolume::write_zeroes(std::uint64_t offset, std::uint64_t length, bool keep_allocated) {
  const auto [first, end] = whole_blocks(offset, length);
  if (first == end) {
    fill_zeroes(offset, offset + length);
    return;
  }
  fill_zeroes(offset, first * kBlockSize);
  blocks_.erase(blocks_.lower_bound(first), blocks_.lower_bound(end));
  for (std::uint64_t block = first; keep_allocated && block < end; ++block) blocks_[block];
  fill_zeroes(end * kBlockSize, offset + length);
}

void MemoryVolume::fill_zeroes(std::uint64_t from, std::uint64_t to) {
  static constexpr std::byte kZeros[kBlockSize] = {};
  while (from < to) {
    const std::uint64_t size = std::min<std::uint64_t>(to - from, kBlockSize - from % kBlockSize);
    write(from, ByteView(kZeros).first(size));
    from += size;
  }
}

std::vector<StatusExtent> MemoryVolume::status(std::uint64_t offset, std::uint64_t length,
                                               std::size_t max_extents) const {
  std::vector<StatusExtent> extents;
  const std::uint64_t end = offset + length;
  auto next = blocks_.lower_bound(offset / kBlockSize);
  while (offset < end) {
    const bool here = next != blocks_.end() && next->first == offset / kBlockSize;
    const bool zero = !here || !next->second;
    std::uint64_t until = end;
    if (here) {
      until = std::min(end, (next->first + 1) * kBlockSize);
      ++next;
    } else if (next != blocks_.end()) {
      until = std::min(end, next->first * kBlockSize);
    }
    const bool same =
        !extents.empty() && extents.back().hole == !here && extents.back().zero == zero;
    if (!same) {
      if (extents.size() == max_extents) break;
      extents.push_back({.length = 0, .hole = !here, .zero = zero});
    }
    extents.back().length += until - offset;
    offset = until;
  }
  return extents;
}

std::byte* MemoryVolume::data_of(std::uint64_t block) {
  Block& data = blocks_[block];
  if (!data) data = std::make_unique<std::byte[]>(kBlockSize);
  return data.get();
}

std::pair<std::uint64_t, std::uint64_t> MemoryVolume::whole_blocks(std::uint64_t offset,
                                                                   std::uint64_t length) const {
  DATOM_CHECK(offset <= info_.size && length <= info_.size - offset);
  const std::uint64_t first = (offset + kBlockSize - 1) / kBlockSize;
  const std::uint64_t end = (offset + length) / kBlockSize;
  return {first, std::max(first, end)};
}

namespace {

class MemoryExport final : public Export {
 public:
  MemoryExport(runtime::Loop& loop, MemoryVolume& volume) : loop_(loop), volume_(volume) {}

  const ExportInfo& info() const override { return volume_.info(); }

  Task<Buffer> read(std::uint64_t offset, std::uint32_t length) override {
    co_await runtime::switch_to(loop_);
    Buffer data = Buffer::allocate(length);
    volume_.read(offset, data.mutable_view());
    co_return data;
  }
  Task<void> write(std::uint64_t offset, Buffer data) override {
    co_await runtime::switch_to(loop_);
    volume_.write(offset, data.view());
  }
  Task<void> trim(std::uint64_t offset, std::uint64_t length) override {
    co_await runtime::switch_to(loop_);
    volume_.trim(offset, length);
  }
  Task<void> write_zeroes(std::uint64_t offset, std::uint64_t length,
                          bool keep_allocated) override {
    co_await runtime::switch_to(loop_);
    volume_.write_zeroes(offset, length, keep_allocated);
  }
  Task<void> flush() override { co_await runtime::switch_to(loop_); }
  Task<std::vector<StatusExtent>> block_status(std::uint64_t offset, std::uint64_t length,
                                               std::size_t max_extents) override {
    co_await runtime::switch_to(loop_);
    co_return volume_.status(offset, length, max_extents);
  }
  // Nothing is under way for longer than a turn of the loop.
  Task<void> close() override { co_await runtime::switch_to(loop_); }

 private:
  runtime::Loop& loop_;
  MemoryVolume& volume_;
};

}  // namespace

std::unique_ptr<Export> make_memory_export(runtime::Loop& loop, MemoryVolume& volume) {
  return std::make_unique<MemoryExport>(loop, volume);
}

MemoryVolume& MemoryExports::add(ExportInfo info, ExportPlace place) {
  const std::string name = info.name;
  Entry& entry = volumes_[name];
  entry = {std::make_unique<MemoryVolume>(std::move(info)), place};
  return *entry.volume;
}

Task<std::vector<ExportInfo>> MemoryExports::list() {
  std::vector<ExportInfo> infos;
  for (const auto& [name, entry] : volumes_) infos.push_back(entry.volume->info());
  co_return infos;
}

Task<ExportInfo> MemoryExports::describe(std::string name) {
  co_return find(name).volume->info();
}

ExportPlace MemoryExports::place(const std::string& name) {
  return find(name).place;
}

Task<std::unique_ptr<Export>> MemoryExports::open(std::string name) {
  const Entry& entry = find(name);
  co_return make_memory_export(*entry.place.loop, *entry.volume);
}

const MemoryExports::Entry& MemoryExports::find(const std::string& name) const {
  const auto found = volumes_.find(name);
  if (found == volumes_.end()) {
    throw Error(Code::not_found, "there is no export '{}'", printable(name));
  }
  return found->second;
}

}  // namespace datom::nbd
