#include "config_service/verify.h"

#include <fmt/format.h>

#include <chrono>

#include "common/error.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"
#include "protocol/volume.pb.h"

namespace datom::config_service {
namespace {

// The leader and its followers read some MiB in it, and wait for each other.
constexpr runtime::Duration kTimeout = std::chrono::seconds(60);

std::string hexadecimal(std::uint64_t number) {
  return fmt::format("{:016x}", number);
}

std::string kind_name(std::uint32_t kind) {
  if (kind == 0) return "hole";
  return kind == 1 ? "zero" : "data";
}

protocol::VerifyVolumeReply view(const protocol::VerifyReply& found, bool fingerprints) {
  protocol::VerifyVolumeReply out;
  out.set_equal(found.equal());
  out.set_op(found.op());
  out.set_difference_count(found.difference_count());
  out.set_next_block(found.next_block());
  out.set_blocks(found.blocks());
  for (const protocol::VerifyReply::Member& member : found.members()) {
    protocol::VerifyVolumeReply::Member* to = out.add_members();
    to->set_service(member.service());
    to->set_trouble(member.trouble());
    if (fingerprints && member.trouble().empty()) {
      to->set_fingerprint(hexadecimal(member.fingerprint()));
    }
  }
  for (const protocol::VerifyReply::Difference& difference : found.differences()) {
    protocol::VerifyVolumeReply::Difference* to = out.add_differences();
    to->set_block(difference.block());
    for (const protocol::VerifyReply::Copy& copy : difference.copies()) {
      protocol::VerifyVolumeReply::Copy* copied = to->add_copies();
      copied->set_service(copy.service());
      copied->set_op(copy.op());
      copied->set_kind(kind_name(copy.kind()));
      copied->set_checksum(hexadecimal(copy.checksum()));
      copied->set_damaged(copy.damaged());
      copied->set_repaired(copy.repaired());
    }
  }
  return out;
}

}  // namespace

runtime::Task<protocol::VerifyVolumeReply> verify_volume(rpc::Caller& caller, const Domain& domain,
                                                         protocol::VerifyVolumeRequest request) {
  const auto volume = domain.volumes.find(request.name());
  if (volume == domain.volumes.end()) {
    throw Error(Code::not_found, "volume {} is not in domain {}", request.name().substr(0, 80),
                domain.name);
  }
  const protocol::VolumeRecord& record = volume->second.record;
  protocol::VerifyRequest question;
  question.set_volume(record.id.bytes.data(), record.id.bytes.size());
  question.set_fingerprints(request.fingerprints());
  question.set_from_block(request.from_block());
  question.set_deep(request.deep());
  std::string last = "it has no members";
  for (const protocol::ReplicaRecord& replica : domain.replicas_of(record)) {
    if (!domain.instances.contains(replica.service)) continue;
    rpc::Message message;
    message.header = question.SerializeAsString();
    try {
      const rpc::Message answer = co_await caller.call(replica.service, protocol::method::kVerify,
                                                       std::move(message), kTimeout);
      protocol::VerifyReply found;
      if (!found.ParseFromString(answer.header)) {
        throw Error(Code::corrupt, "{} answers what is no comparison", replica.service);
      }
      co_return view(found, request.fingerprints());
    } catch (const Error& error) {
      // The next one may lead.
      if (error.code() != Code::not_leader) last = error.what();
    }
  }
  throw Error(Code::unavailable, "volume {} has no leader that could compare: {}", record.name,
              last);
}

}  // namespace datom::config_service
