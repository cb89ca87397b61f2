// The properties that a domain knows: one place for names, defaults, bounds and help.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace datom::properties {

// A value is a decimal number of `unit`, in [least, most].
struct Definition {
  std::string_view name;
  std::uint64_t default_value;
  std::uint64_t least;
  std::uint64_t most;
  std::string_view unit;
  std::string_view help;  // one sentence
};
struct BytesProperty : Definition {};
struct DurationProperty : Definition {};  // unit: ms
struct CountProperty : Definition {};

inline constexpr BytesProperty kJournalRetention{
    {"journal.retention_bytes", 256ull << 20, 1ull << 20, 1ull << 40, "bytes",
     "Journal that a replica keeps below its checkpoint, so that a follower which was away catches "
     "up entry by entry."}};
inline constexpr DurationProperty kGroupHeartbeat{
    {"group.heartbeat_ms", 200, 10, 10'000, "ms",
     "Interval at which a leader without client requests tells its followers that it is there."}};
inline constexpr DurationProperty kGroupElectionTimeout{
    {"group.election_timeout_ms", 1000, 50, 60'000, "ms",
     "A follower that hears nothing from its leader for so long looks for another; keep it above "
     "three heartbeats."}};
inline constexpr DurationProperty kGroupLease{
    {"group.lease_ms", 300, 0, 1'000, "ms",
     "So long after an answer of its followers a leader serves reads without asking them, and so "
     "long a new leader waits; 0: every read asks them."}};
inline constexpr BytesProperty kCacheBytes{
    {"cache.bytes", 4ull << 30, 0, 1ull << 50, "bytes",
     "Memory in which each volume server keeps blocks that were read or written, at most half of "
     "what its machine has."}};
inline constexpr DurationProperty kCheckpointInterval{
    {"checkpoint.interval_ms", 30'000, 100, 3'600'000, "ms",
     "A replica makes its block store durable, and lets go of journal, at least so often."}};
inline constexpr BytesProperty kScrubBytesPerSecond{
    {"scrub.bytes_per_second", 4 << 20, 0, 1ull << 40, "bytes",
     "So much each replica reads of its blocks in the background, to find and repair what its disk "
     "lost; 0: none."}};
inline constexpr DurationProperty kClientTimeout{
    {"client.timeout_ms", 0, 0, 86'400'000, "ms",
     "A client's request waits so long for a leader before it fails with an I/O error; 0: for "
     "ever."}};
inline constexpr DurationProperty kCoordinationSessionTimeout{
    {"coordination.session_timeout_ms", 6'000, 1'000, 300'000, "ms",
     "The ephemeral nodes of a silent process vanish after so long; a service takes it over at its "
     "next start."}};
inline constexpr BytesProperty kSyncRate{
    {"sync.bytes_per_second", 0, 0, 1ull << 40, "bytes per second",
     "What a leader sends at most to replicas that copy blocks of one volume; 0: as fast as its "
     "clients allow."}};

inline constexpr DurationProperty kReplaceAfter{
    {"replace.after_ms", 600'000, 0, 604'800'000, "ms",
     "A replica whose service has been down, or which has been unusable, for so long is replaced "
     "on another server; 0: never."}};
inline constexpr CountProperty kReplaceConcurrent{
    {"replace.concurrent", 2, 1, 64, "moves",
     "So many replicas are moved or replaced at once in the domain."}};

// All of them, by name.
std::span<const Definition* const> known();
// nullptr: there is none of that name.
const Definition* find(std::string_view name);

// The number that `value` means. Throws Error{not_found} listing the known names for an unknown
// name, Error{invalid_argument} naming the bounds for a value that is none.
std::uint64_t validate(std::string_view name, std::string_view value);

}  // namespace datom::properties
