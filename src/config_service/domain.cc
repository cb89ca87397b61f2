#include "config_service/domain.h"

#include <algorithm>
#include <exception>

#include "common/error.h"
#include "runtime/task_group.h"

namespace datom::config_service {
namespace {

using coordination::Client;
using runtime::Loop;
using runtime::Task;

namespace paths = protocol::paths;

template <typename Record>
Record parse(const std::string& path, const std::string& data) {
  try {
    return Record::from_json(data);
  } catch (const Error& error) {
    throw Error(error.code(), "{}: {}", path, error.what());
  }
}

// Nothing is added where there is no such node.
template <typename Record>
Task<void> read_one(Client& client, std::string path, std::string name, Records<Record>& into) {
  const auto node = co_await client.get(path);
  if (node) into[name] = {parse<Record>(path, node->data), node->stat.version};
}

// What reads run side by side; the first error is thrown once all have ended.
class Reads {
 public:
  explicit Reads(Loop& loop)
      : group_(loop, [this](std::exception_ptr error) { error_ = error_ ? error_ : error; }) {}

  void add(Task<void> read) { group_.spawn(std::move(read)); }
  Task<void> wait() {
    co_await group_.close();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::exception_ptr error_;
  runtime::TaskGroup group_;
};

Task<std::vector<std::string>> names_under(Client& client, std::string path) {
  auto names = co_await client.children(path);
  if (!names) co_return std::vector<std::string>();
  co_return std::move(*names);
}

template <typename Record>
Task<void> read_all(Loop& loop, Client& client, std::string parent, Records<Record>& into) {
  const std::vector<std::string> names = co_await names_under(client, parent);
  Reads reads(loop);
  for (const std::string& name : names) {
    reads.add(read_one<Record>(client, parent + "/" + name, name, into));
  }
  co_await reads.wait();
}

Task<void> read_instances(Loop& loop, Client& client, Domain& domain) {
  Reads reads(loop);
  for (const auto& [name, service] : domain.services) {
    reads.add(read_one<rpc::Instance>(client, paths::service_instance(domain.name, name), name,
                                      domain.instances));
  }
  co_await reads.wait();
}

Task<void> read_services_into(Loop& loop, Client& client, Domain& domain) {
  co_await read_all(loop, client, paths::nodes(domain.name), domain.nodes);
  co_await read_all(loop, client, paths::services(domain.name), domain.services);
  co_await read_instances(loop, client, domain);
}

}  // namespace

std::vector<protocol::ReplicaRecord> Domain::replicas_of(
    const protocol::VolumeRecord& volume) const {
  std::vector<protocol::ReplicaRecord> replicas;
  const auto add = [&](const protocol::ReplicaRecord& replica) {
    if (std::find(replicas.begin(), replicas.end(), replica) == replicas.end()) {
      replicas.push_back(replica);
    }
  };
  const auto found = groups.find(volume.id.to_string());
  if (found != groups.end()) {
    const protocol::GroupRecord& group = found->second.record;
    for (const auto& voter : group.voters) add(voter);
    for (const auto& voter : group.next_voters) add(voter);
    for (const auto& learner : group.learners) add(learner.member);
  }
  for (const auto& replica : volume.replicas) add(replica);
  return replicas;
}

std::string Domain::node_of(const std::string& service) const {
  const auto found = services.find(service);
  return found == services.end() ? "" : found->second.record.node;
}

Task<Domain> read_services(Loop& loop, Client& client, std::string name) {
  Domain domain;
  domain.name = name;
  co_await read_services_into(loop, client, domain);
  co_return domain;
}

Task<Domain> read_domain(Loop& loop, Client& client, std::string name) {
  Domain domain;
  domain.name = name;
  const auto volumes = co_await client.get(paths::volumes(name));
  if (volumes) domain.volumes_version = volumes->stat.version;
  co_await read_all(loop, client, paths::volumes(name), domain.volumes);
  co_await read_all(loop, client, paths::groups(name), domain.groups);
  co_await read_services_into(loop, client, domain);
  co_return domain;
}

Task<Domain> read_volume(Loop& loop, Client& client, std::string name, std::string volume) {
  Domain domain;
  domain.name = name;
  co_await read_one(client, paths::volume(name, volume), volume, domain.volumes);
  const auto found = domain.volumes.find(volume);
  if (found == domain.volumes.end()) co_return domain;
  const protocol::VolumeRecord& record = found->second.record;
  co_await read_one(client, paths::group(name, record.id), record.id.to_string(), domain.groups);
  for (const protocol::ReplicaRecord& replica : domain.replicas_of(record)) {
    co_await read_one(client, paths::service(name, replica.service), replica.service,
                      domain.services);
  }
  co_await read_instances(loop, client, domain);
  co_return domain;
}

void check_name(std::string_view what, std::string_view name) {
  if (protocol::valid_name(name)) return;
  throw Error(
      Code::invalid_argument,
      "{} name '{}' is refused: expected 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a "
      "letter or digit",
      what, name.substr(0, 80));
}

Task<bool> commit(Client& client, std::vector<coordination::Operation> operations) {
  try {
    co_await client.multi(std::move(operations));
    co_return true;
  } catch (const Error& error) {
    const Code code = error.code();
    const bool changed =
        code == Code::conflict || code == Code::already_exists || code == Code::not_found;
    if (!changed) throw;
  }
  co_return false;
}

}  // namespace datom::config_service
