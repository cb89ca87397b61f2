// Looks at every block that holds data, in the background, so that what a disk loses is found while
// the other members still have it.
#include <algorithm>

#include "common/error.h"
#include "volume/block_care.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

using block_store::BlockNumber;

constexpr std::size_t kBlocksAtOnce = 64;
constexpr runtime::Duration kIdle = std::chrono::seconds(1);        // until it is looked again
constexpr runtime::Duration kPassInterval = std::chrono::hours(1);  // between two beginnings
// While clients' requests are under way a step waits, but not for ever.
constexpr runtime::Duration kYield = std::chrono::milliseconds(10);
constexpr int kMostYields = 50;
constexpr int kMostRetries = 60;  // of a step while a peer cannot be asked

}  // namespace

Task<void> BlockCare::pause(runtime::Duration duration) {
  if (stopping_) co_return;
  timer_.reset();
  co_await timer_.sleep_for(duration);
}

void BlockCare::stop() {
  stopping_ = true;
  timer_.cancel();
  count_timer_.cancel();
}

// Not what redo may still rewrite, nor what is being copied.
bool BlockCare::may_scrub() {
  whole_from_ = std::min(whole_from_, replica_.journal->last().op);
  return replica_.seams.properties->get(properties::kScrubBytesPerSecond) > 0 &&
         replica_.store->state().base_complete && replica_.store->fingerprint_known() &&
         replica_.store->applied_op() >= whole_from_;
}

Task<void> BlockCare::scrub() {
  const auto over = [this] { return stopping_ || replica_.stopping || !replica_.trouble.empty(); };
  while (!over()) {
    const runtime::Time now = replica_.loop().now();
    const bool due = pass_under_way_ || !pass_begun_ || now - *pass_begun_ >= kPassInterval;
    if (!due || !may_scrub()) {
      co_await pause(due ? kIdle : *pass_begun_ + kPassInterval - now);
      continue;
    }
    if (!std::exchange(pass_under_way_, true)) pass_begun_ = now;
    for (int yields = 0; replica_.serving > 0 && yields < kMostYields && !over(); ++yields) {
      co_await pause(kYield);
    }
    if (over()) break;
    std::string trouble;
    try {
      co_await scrub_some();
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    if (!trouble.empty() && !over()) {
      replica_.log.warn("replica.scrub_interrupted", {}, trouble);
      co_await pause(kIdle);
    }
  }
}

// One step, as long as its bytes take at the rate.
Task<void> BlockCare::scrub_some() {
  const BlockNumber blocks = replica_.volume.size / kBlockSize;
  const BlockNumber from = scrub_next_;
  const block_store::CheckResult result =
      co_await guarded(replica_.store->check(from, blocks, kBlocksAtOnce));
  scrubbed_bytes_total_->add(static_cast<double>(result.bytes));
  for (const block_store::Damage& damage : result.damaged) {
    std::string trouble;
    bool later = false;
    try {
      co_await repair(damage.version.block);
    } catch (const Error& error) {
      trouble = error.what();
      later = error.code() == Code::unavailable;
    }
    if (stopping_ || !replica_.trouble.empty()) co_return;
    if (trouble.empty()) continue;
    if (later && scrub_retries_ < kMostRetries) {
      ++scrub_retries_;
      co_await pause(kIdle);
      co_return;
    }
    all_sound_ = false;
    replica_.log.error("replica.block_damaged", {{"block", damage.version.block}}, trouble);
  }
  scrub_retries_ = 0;
  scrub_next_ = result.next;
  if (result.next >= blocks) co_await end_pass();
  const std::uint64_t rate = replica_.seams.properties->get(properties::kScrubBytesPerSecond);
  const std::uint64_t bytes = result.bytes + (result.next - from) * kTableEntryBytes;
  if (rate == 0) co_return;
  co_await pause(std::chrono::nanoseconds(
      static_cast<std::int64_t>(static_cast<double>(bytes) / static_cast<double>(rate) * 1e9)));
}

// If every content matches its entry now: do all entries together come to what was counted?
Task<void> BlockCare::end_pass() {
  scrub_next_ = 0;
  pass_under_way_ = false;
  scrubbed_at_ = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(
                                                replica_.loop().wall_now().time_since_epoch())
                                                .count());
  scrubbed_at_gauge_->set(static_cast<double>(scrubbed_at_));
  if (!std::exchange(all_sound_, true)) co_return;
  co_await recount();
}

// False: the count was wrong, as after a damaged entry was overwritten. If it is the table that is
// wrong, the next comparison with the leader says so.
Task<bool> BlockCare::recount() {
  const runtime::Mutex::Holder turn = co_await recounting_.lock();
  const bool as_counted = co_await guarded(replica_.store->recount());
  if (as_counted) co_return true;
  const Op op = replica_.store->applied_op();
  replica_.log.warn("replica.recounted", {{"op", op}},
                    "the block table did not come to the fingerprint that was counted");
  replica_.group->set_fingerprint(op, replica_.store->fingerprint());
  replica_.divergence_reported = false;
  co_return false;
}

void BlockCare::fill(protocol::ReplicaStatus& status) const {
  status.set_scrub_position(scrub_next_ * kBlockSize);
  status.set_scrubbed_at(scrubbed_at_);
  status.set_repaired_blocks(repaired_blocks_);
}

}  // namespace datom::volume
