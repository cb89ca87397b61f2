#include "block_store/superblock.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"

namespace datom::block_store {
namespace {

constexpr std::string_view kMagic = "datomSBK";
constexpr std::uint32_t kFormatVersion = 1;
constexpr std::uint32_t kBaseComplete = 1;  // of the flags

// Byte offsets in a slot (docs/formats.md).
enum Field : std::size_t {
  kMagicAt = 0,
  kVersionAt = 8,
  kFlagsAt = 12,
  kSequenceAt = 16,
  kSizeAt = 24,
  kVolumeAt = 32,
  kReplicaAt = 48,
  kPromisedAt = 64,
  kConfigEpochAt = 72,
  kCheckpointAt = 80,
  kCopyFromAt = 88,
  kHorizonAt = 96,
  kFingerprintAt = 104,
  kBlocksUsedAt = 112,
  kSessionBytesAt = 120,
  kSessionsAt = 128,
  kChecksumAt = kSuperblockSlotBytes - 8,
};
static_assert(kSessionsAt + kMaxSessionBytes <= kChecksumAt);

void store_uuid(std::byte* to, const Uuid& uuid) {
  std::memcpy(to, uuid.bytes.data(), uuid.bytes.size());
}

Uuid load_uuid(const std::byte* from) {
  Uuid uuid;
  std::memcpy(uuid.bytes.data(), from, uuid.bytes.size());
  return uuid;
}

ReplicaState decode_state(const std::byte* from) {
  ReplicaState state;
  state.volume = load_uuid(from + kVolumeAt);
  state.replica = load_uuid(from + kReplicaAt);
  state.promised = Term(load_le<std::uint64_t>(from + kPromisedAt));
  state.config_epoch = load_le<std::uint64_t>(from + kConfigEpochAt);
  state.base_complete = (load_le<std::uint32_t>(from + kFlagsAt) & kBaseComplete) != 0;
  state.copy_from = Op(load_le<std::uint64_t>(from + kCopyFromAt));
  const std::size_t bytes = load_le<std::uint32_t>(from + kSessionBytesAt);
  state.sessions = as_text(ByteView(from + kSessionsAt, bytes));
  return state;
}

bool plausible(const std::byte* from) {
  const auto size = load_le<std::uint64_t>(from + kSizeAt);
  return size > 0 && size % kBlockSize == 0 &&
         load_le<std::uint32_t>(from + kSessionBytesAt) <= kMaxSessionBytes &&
         load_le<std::uint64_t>(from + kCheckpointAt) <= load_le<std::uint64_t>(from + kHorizonAt);
}

}  // namespace

Buffer encode_superblock(const Superblock& superblock) {
  const ReplicaState& state = superblock.state;
  DATOM_CHECK(state.sessions.size() <= kMaxSessionBytes);
  Buffer slot = Buffer::zeroed(kSuperblockSlotBytes);
  std::byte* to = slot.mutable_data();
  std::memcpy(to + kMagicAt, kMagic.data(), kMagic.size());
  store_le(to + kVersionAt, kFormatVersion);
  store_le(to + kFlagsAt, state.base_complete ? kBaseComplete : std::uint32_t{0});
  store_le(to + kSequenceAt, superblock.sequence);
  store_le(to + kSizeAt, superblock.size);
  store_uuid(to + kVolumeAt, state.volume);
  store_uuid(to + kReplicaAt, state.replica);
  store_le(to + kPromisedAt, state.promised.value());
  store_le(to + kConfigEpochAt, state.config_epoch);
  store_le(to + kCheckpointAt, superblock.checkpoint.value());
  store_le(to + kCopyFromAt, state.copy_from.value());
  store_le(to + kHorizonAt, superblock.horizon.value());
  store_le(to + kFingerprintAt, superblock.fingerprint);
  store_le(to + kBlocksUsedAt, superblock.blocks_used);
  store_le(to + kSessionBytesAt, static_cast<std::uint32_t>(state.sessions.size()));
  std::memcpy(to + kSessionsAt, state.sessions.data(), state.sessions.size());
  store_le(to + kChecksumAt, checksum(slot.view().first(kChecksumAt)));
  return slot;
}

std::optional<Superblock> decode_superblock(ByteView slot) {
  if (slot.size() < kSuperblockSlotBytes) return std::nullopt;
  const std::byte* from = slot.data();
  if (as_text(slot.first(kMagic.size())) != kMagic) return std::nullopt;
  if (load_le<std::uint64_t>(from + kChecksumAt) != checksum(slot.first(kChecksumAt))) {
    return std::nullopt;
  }
  const auto version = load_le<std::uint32_t>(from + kVersionAt);
  if (version != kFormatVersion) {
    throw Error(Code::unsupported, "superblock has format version {}, this datom reads version {}",
                version, kFormatVersion);
  }
  if (!plausible(from)) return std::nullopt;
  Superblock superblock;
  superblock.sequence = load_le<std::uint64_t>(from + kSequenceAt);
  superblock.size = load_le<std::uint64_t>(from + kSizeAt);
  superblock.state = decode_state(from);
  superblock.checkpoint = Op(load_le<std::uint64_t>(from + kCheckpointAt));
  superblock.horizon = Op(load_le<std::uint64_t>(from + kHorizonAt));
  superblock.fingerprint = load_le<std::uint64_t>(from + kFingerprintAt);
  superblock.blocks_used = load_le<std::uint64_t>(from + kBlocksUsedAt);
  return superblock;
}

runtime::Task<void> SuperblockFile::create(runtime::Filesystem& files, std::string path,
                                           Superblock first) {
  runtime::OpenOptions options{.create = true, .direct = true, .synchronous = true};
  SuperblockFile created;
  created.file_ = co_await files.open(path, options);
  co_await created.write(std::move(first));
  co_await created.file_->sync();
}

runtime::Task<std::unique_ptr<SuperblockFile>> SuperblockFile::open(runtime::Filesystem& files,
                                                                    std::string path) {
  runtime::OpenOptions options{.direct = true, .synchronous = true};
  auto opened = std::make_unique<SuperblockFile>();
  opened->file_ = co_await files.open(path, options);
  co_await opened->load(path);
  co_return opened;
}

// Each slot by itself: one that cannot be read is as good as a damaged one, and what both hold was
// written before any write has returned.
runtime::Task<Buffer> SuperblockFile::read_slot(std::size_t slot, std::string& trouble) {
  Buffer bytes = Buffer::zeroed(kSuperblockSlotBytes);
  try {
    const std::size_t found =
        co_await file_->read(slot * kSuperblockSlotBytes, bytes.mutable_view());
    if (found == bytes.size()) co_return bytes;
    trouble = "the file ends early";
  } catch (const Error& error) {
    if (error.code() != Code::io_error) throw;
    trouble = error.what();
  }
  co_return Buffer();
}

runtime::Task<void> SuperblockFile::load(const std::string& path) {
  std::array<Buffer, 2> bytes;
  std::array<std::optional<Superblock>, 2> slots;
  std::array<std::string, 2> trouble = {"damaged", "damaged"};
  for (std::size_t slot = 0; slot < slots.size(); ++slot) {
    bytes[slot] = co_await read_slot(slot, trouble[slot]);
    slots[slot] = decode_superblock(bytes[slot].view());
  }
  if (!slots[0] && !slots[1]) {
    throw Error(
        Code::corrupt,
        "{}: neither slot holds a valid superblock ({}; {}): what this replica has promised "
        "is lost, so it cannot take part again and has to be replaced",
        path, trouble[0], trouble[1]);
  }
  const std::uint64_t first = slots[0] ? slots[0]->sequence : 0;
  const std::uint64_t second = slots[1] ? slots[1]->sequence : 0;
  const std::size_t newer = second > first ? 1 : 0;
  current_ = *slots[newer];
  write_first_ = 1 - newer;
  if (first == second) co_return;
  co_await write_slot(write_first_, std::move(bytes[newer]));
}

runtime::Task<void> SuperblockFile::write_slot(std::size_t slot, Buffer bytes) {
  co_await file_->write(slot * kSuperblockSlotBytes, bytes.view());
}

runtime::Task<void> SuperblockFile::write(Superblock next) {
  next.sequence = current_.sequence + 1;
  Buffer bytes = encode_superblock(next);
  co_await write_slot(write_first_, bytes);
  co_await write_slot(1 - write_first_, bytes);
  current_ = std::move(next);
}

}  // namespace datom::block_store
