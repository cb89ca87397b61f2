#include "config_service/replica_answers.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/check.h"
#include "common/error.h"
#include "protocol/methods.h"
#include "runtime/task_group.h"

namespace datom::config_service {
namespace {

using runtime::Task;

std::string wire(const Uuid& uuid) {
  return std::string(reinterpret_cast<const char*>(uuid.bytes.data()), uuid.bytes.size());
}

Task<void> ask(rpc::Caller& caller, std::string service, rpc::Message request,
               runtime::Duration timeout, Answer& answer) {
  try {
    const rpc::Message reply = co_await caller.call(service, protocol::method::kReplicaStatus,
                                                    std::move(request), timeout);
    if (!answer.reply.ParseFromString(reply.header)) answer.trouble = "answers what is no status";
  } catch (const Error& error) {
    answer.trouble = fmt::format("does not answer: {}", error.what());
  }
}

}  // namespace

Task<Answers> ask_replicas(runtime::Loop& loop, rpc::Caller& caller, const Domain& domain,
                           std::vector<std::string> services, Uuid volume,
                           runtime::Duration timeout) {
  protocol::ReplicaStatusRequest question;
  if (!volume.is_nil()) question.set_volume(wire(volume));
  Answers answers;
  runtime::TaskGroup asking(loop, [](std::exception_ptr) { DATOM_CHECK(false); });
  for (const std::string& service : services) {
    if (answers.contains(service)) continue;
    Answer& answer = answers[service];
    answer.up = domain.instances.contains(service);
    if (!answer.up) {
      answer.trouble = "is down";
      continue;
    }
    rpc::Message request;
    request.header = question.SerializeAsString();
    asking.spawn(ask(caller, service, std::move(request), timeout, answer));
  }
  co_await asking.close();
  co_return answers;
}

const protocol::ReplicaStatus* find_replica(const Answer& answer, const Uuid& volume,
                                            const Uuid& replica) {
  const std::string id = wire(volume);
  const std::string own = wire(replica);
  const protocol::ReplicaStatus* nameless = nullptr;
  for (const protocol::ReplicaStatus& status : answer.reply.replicas()) {
    if (status.volume() != id) continue;
    if (status.replica() == own) return &status;
    if (status.replica().empty()) nameless = &status;
  }
  return nameless;
}

bool has_replica(const Answer& answer, const Uuid& volume) {
  const std::string id = wire(volume);
  return std::any_of(answer.reply.replicas().begin(), answer.reply.replicas().end(),
                     [&](const auto& status) { return status.volume() == id; });
}

std::vector<std::string> volume_servers(const Domain& domain) {
  std::vector<std::string> names;
  for (const auto& [name, service] : domain.services) {
    if (service.record.type == protocol::ServiceType::volume_server) names.push_back(name);
  }
  return names;
}

}  // namespace datom::config_service
