#include "service/volume_exports.h"

#include <optional>
#include <utility>

#include "common/check.h"
#include "common/error.h"

namespace datom::service {
namespace {

using protocol::VolumeRecord;
using runtime::Task;

nbd::ExportInfo info_of(const VolumeRecord& record) {
  nbd::ExportInfo info;
  info.name = record.name;
  info.size = record.size;
  info.description = "datom volume " + record.id.to_string();
  // A write is durable when it is acknowledged, so a flush has nothing left to do for anybody. But
  // a client that opens several connections is several writers, which an exclusive volume refuses.
  info.multi_conn = record.access == protocol::Access::shared;
  info.preferred_block = record.block_size;
  return info;
}

class VolumeExport final : public nbd::Export {
 public:
  explicit VolumeExport(std::unique_ptr<volume::VolumeClient> client)
      : client_(std::move(client)), info_(info_of(client_->record())) {}

  const nbd::ExportInfo& info() const override { return info_; }
  Task<Buffer> read(std::uint64_t offset, std::uint32_t length) override {
    return client_->read(offset, length);
  }
  Task<void> write(std::uint64_t offset, Buffer data) override {
    return client_->write(offset, std::move(data));
  }
  Task<void> trim(std::uint64_t offset, std::uint64_t length) override {
    return client_->trim(offset, length);
  }
  Task<void> write_zeroes(std::uint64_t offset, std::uint64_t length,
                          bool keep_allocated) override {
    return client_->write_zeroes(offset, length, keep_allocated);
  }
  // What is acknowledged is on stable storage of a majority already.
  Task<void> flush() override { co_return; }
  Task<std::vector<nbd::StatusExtent>> block_status(std::uint64_t offset, std::uint64_t length,
                                                    std::size_t max_extents) override;
  Task<void> close() override { return client_->close(); }

 private:
  std::unique_ptr<volume::VolumeClient> client_;
  nbd::ExportInfo info_;
};

Task<std::vector<nbd::StatusExtent>> VolumeExport::block_status(std::uint64_t offset,
                                                                std::uint64_t length,
                                                                std::size_t max_extents) {
  const std::vector<block_store::Extent> extents =
      co_await client_->extents(offset, length, max_extents);
  std::vector<nbd::StatusExtent> status;
  for (const block_store::Extent& extent : extents) {
    const bool hole = extent.kind == block_store::BlockKind::hole;
    const bool zero = hole || extent.kind == block_store::BlockKind::zero;
    status.push_back({extent.length, hole, zero});
  }
  co_return status;
}

class VolumeExports final : public nbd::Exports {
 public:
  VolumeExports(std::vector<volume::VolumeServer*> shards, std::vector<LoopSeams> loops)
      : shards_(std::move(shards)), loops_(std::move(loops)) {}

  Task<std::vector<nbd::ExportInfo>> list() override;
  Task<nbd::ExportInfo> describe(std::string name) override;
  nbd::ExportPlace place(const std::string& name) override;
  Task<std::unique_ptr<nbd::Export>> open(std::string name) override;

 private:
  volume::VolumeServer& shard_here() const;

  std::vector<volume::VolumeServer*> shards_;
  std::vector<LoopSeams> loops_;
};

// The shard of the current loop: each of them knows every volume.
volume::VolumeServer& VolumeExports::shard_here() const {
  for (volume::VolumeServer* shard : shards_) {
    if (shard->loop().is_current()) return *shard;
  }
  DATOM_CHECK(!"on a loop of the volume server");
  std::abort();
}

Task<std::vector<nbd::ExportInfo>> VolumeExports::list() {
  std::vector<nbd::ExportInfo> exports;
  for (const VolumeRecord& record : shard_here().volumes()) {
    if (!record.removing) exports.push_back(info_of(record));
  }
  co_return exports;
}

Task<nbd::ExportInfo> VolumeExports::describe(std::string name) {
  const std::optional<VolumeRecord> record = co_await shard_here().find(name);
  if (record) co_return info_of(*record);
  throw Error(Code::not_found, "there is no volume '{}'", name);
}

nbd::ExportPlace VolumeExports::place(const std::string& name) {
  const std::size_t shard = volume::shard_of(name, static_cast<std::uint32_t>(shards_.size()));
  return {loops_[shard].loop, loops_[shard].network};
}

Task<std::unique_ptr<nbd::Export>> VolumeExports::open(std::string name) {
  const std::size_t shard = volume::shard_of(name, static_cast<std::uint32_t>(shards_.size()));
  std::unique_ptr<volume::VolumeClient> client = co_await shards_[shard]->attach(std::move(name));
  co_return std::make_unique<VolumeExport>(std::move(client));
}

}  // namespace

std::unique_ptr<nbd::Exports> make_volume_exports(std::vector<volume::VolumeServer*> shards,
                                                  std::vector<LoopSeams> loops) {
  return std::make_unique<VolumeExports>(std::move(shards), std::move(loops));
}

}  // namespace datom::service
