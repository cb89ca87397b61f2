#include "config_service/init.h"

#include "common/error.h"
#include "config_service/domain.h"
#include "config_service/node_registry.h"
#include "protocol/config.pb.h"

namespace datom::config_service {
namespace {

using coordination::Create;
using coordination::Operation;
using runtime::Task;

namespace paths = protocol::paths;

constexpr std::string_view kDomains = "/datom/domains";

std::vector<Operation> tree_of(const protocol::InitRequest& request, const Uuid& uuid) {
  const std::string& domain = request.domain();
  protocol::InstanceRecord instance;
  instance.uuid = uuid;
  std::vector<Operation> operations = {
      Create{std::string(paths::kConfigService), instance.to_json()},
      Create{std::string(kDomains), ""},
      Create{paths::domain(domain), ""},
      Create{paths::properties(domain), ""},
      Create{paths::nodes(domain), ""},
      Create{paths::services(domain), ""},
      Create{paths::volumes(domain), ""},
      Create{paths::groups(domain), ""},
  };
  if (request.has_node()) {
    Domain empty;
    empty.name = domain;
    std::vector<Operation> node = registration(request.node(), empty);
    operations.insert(operations.end(), node.begin(), node.end());
  }
  return operations;
}

Task<void> refuse_existing(coordination::Client& client) {
  const auto existing = co_await client.get(std::string(paths::kConfigService));
  if (!existing) co_return;
  throw Error(
      Code::already_exists,
      "this tree is a datom instance already ({}), expected none: `datom init` is done once",
      existing->data);
}

}  // namespace

Task<Uuid> make_tree(coordination::Client& client, runtime::Random& random,
                     protocol::InitRequest request) {
  check_name("domain", request.domain());
  const std::uint64_t high = random.next();
  const std::uint64_t low = random.next();
  const Uuid uuid = Uuid::from_random(high, low);
  std::vector<Operation> operations = tree_of(request, uuid);
  co_await refuse_existing(client);
  co_await coordination::ensure_path(client, std::string(paths::kRoot));
  const bool made = co_await commit(client, std::move(operations));
  if (made) co_return uuid;
  co_await refuse_existing(client);  // someone else was faster
  throw Error(Code::conflict, "{} holds nodes that are none of a datom instance, expected nothing",
              paths::kRoot);
}

}  // namespace datom::config_service
