// The properties of a domain: what there are, what is in force, and changing them.
#pragma once

#include <string>

#include "coordination/client.h"
#include "properties/known.h"
#include "protocol/config_fwd.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::config_service {

class PropertyRegistry {
 public:
  // They must outlive it; all on `loop`.
  PropertyRegistry(runtime::Loop& loop, coordination::Client& client, std::string domain);

  // Every property that datom knows, by name.
  runtime::Task<protocol::ListPropertiesReply> list();
  // Error{not_found} listing the names there are.
  runtime::Task<protocol::Property> get(std::string name);
  // The value in force.
  runtime::Task<std::uint64_t> number(const properties::Definition& definition);
  // Services follow the new value at once. The last of several who set it at the same time wins.
  // Throws as get(), and Error{invalid_argument} naming the bounds.
  runtime::Task<protocol::Property> set(protocol::SetPropertyRequest request);

 private:
  runtime::Loop& loop_;
  coordination::Client& client_;
  std::string domain_;
};

}  // namespace datom::config_service
