// Numbers of the RPC methods. They cross the wire: append only, never reuse. The messages are in
// the .proto file named beside each block.
#pragma once

#include <cstdint>

namespace datom::protocol::method {

// config.proto: asked of the config service.
inline constexpr std::uint16_t kInit = 1;
inline constexpr std::uint16_t kAddNode = 2;
inline constexpr std::uint16_t kListNodes = 3;
inline constexpr std::uint16_t kListServices = 4;
inline constexpr std::uint16_t kCreateVolume = 5;
inline constexpr std::uint16_t kListVolumes = 6;
inline constexpr std::uint16_t kVolumeInfo = 7;
inline constexpr std::uint16_t kRemoveVolume = 8;
inline constexpr std::uint16_t kStatus = 9;
inline constexpr std::uint16_t kListProperties = 10;
inline constexpr std::uint16_t kGetProperty = 11;
inline constexpr std::uint16_t kSetProperty = 12;
inline constexpr std::uint16_t kRemoveNode = 13;
inline constexpr std::uint16_t kMoveVolume = 14;
inline constexpr std::uint16_t kCancelMove = 15;
inline constexpr std::uint16_t kDrainNode = 16;
inline constexpr std::uint16_t kNodeInfo = 17;
inline constexpr std::uint16_t kVerifyVolume = 18;
inline constexpr std::uint16_t kSetVolume = 19;

// volume.proto: asked of a volume server.
inline constexpr std::uint16_t kReplicaStatus = 100;  // what replicas it keeps and how they are
inline constexpr std::uint16_t kClientIo = 101;       // a session's request, asked of the leader
inline constexpr std::uint16_t kProbeSession = 102;   // does the client of that session still live
inline constexpr std::uint16_t kBeginCopy = 103;      // where a copy of blocks begins
inline constexpr std::uint16_t kNewerBlocks = 104;    // block versions, for copying
inline constexpr std::uint16_t kReadBlocks = 105;     // block contents, for copying

inline constexpr std::uint16_t kReplaceReplica = 106;  // asked of the leader: another one instead
inline constexpr std::uint16_t kCancelReplace = 107;   // asked of the leader: undo, while a learner

inline constexpr std::uint16_t kBlocks = 110;       // of any member: versions, contents of blocks
inline constexpr std::uint16_t kVerify = 111;       // asked of the leader: are the members equal
inline constexpr std::uint16_t kFingerprint = 112;  // of any member, as of an op
inline constexpr std::uint16_t kDigests = 113;      // of any member: digests of its block table
inline constexpr std::uint16_t kCheckBlocks = 114;  // of any member: read and repair

// replication.proto: one-way messages between the replicas of a group.
inline constexpr std::uint16_t kGroupMessage = 200;
inline constexpr std::uint16_t kGroupMessages = 201;  // many, of different groups, without entries

// dev.proto: asked of `datom dev` about a service that runs inside it.
inline constexpr std::uint16_t kStartService = 300;
inline constexpr std::uint16_t kStopService = 301;

}  // namespace datom::protocol::method
