// ROOT/node.json: what `datom addnode` stamps on a machine, and the first thing that a service
// reads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/uuid.h"
#include "protocol/records.h"
#include "runtime/file.h"
#include "runtime/task.h"
#include "service/coordination_url.h"

namespace datom::service {

inline constexpr int kNodeFileFormat = 1;
inline constexpr std::size_t kMaxServices = 64;  // of one node
inline constexpr std::size_t kMaxNodeFileBytes = 64 << 10;

// A service that the node runs.
struct NodeService {
  std::string name;
  protocol::ServiceType type = protocol::ServiceType::volume_server;
  std::uint16_t port = 0;
  std::uint16_t nbd_port = 0;  // volume servers only, else 0
  bool operator==(const NodeService&) const = default;
};

struct NodeFile {
  std::string node;
  Uuid uuid;
  std::string domain;
  CoordinationUrl coordination;
  std::string nic_if;  // interface or IP address whose address the services publish
  std::vector<NodeService> services;

  // Throws Error{not_found} listing those there are.
  const NodeService& service(std::string_view name) const;

  std::string to_json() const;
  // Checks every field. Throws Error{corrupt} naming `path`, the field, what was found and what was
  // expected.
  static NodeFile from_json(const std::string& path, std::string_view text);
};

// "volumeserver", "configservice"; throws Error{invalid_argument}.
protocol::ServiceType parse_service_type(std::string_view text);

std::string node_file_path(const std::string& root);
// Throws Error{not_found} saying how to make one, Error{corrupt} as from_json.
runtime::Task<NodeFile> read_node_file(runtime::Filesystem& files, std::string root);
// Durable when it returns; makes the root and its folders if need be.
runtime::Task<void> write_node_file(runtime::Filesystem& files, std::string root, NodeFile node);

// What a service keeps beside its data.
std::string pid_path(const std::string& root, std::string_view service);   // ROOT/run/SERVICE.pid
std::string lock_path(const std::string& root, std::string_view service);  // ROOT/run/SERVICE.lock
std::string log_path(const std::string& root, std::string_view service);   // ROOT/log/SERVICE.log
// What a volume server keeps: ROOT/SERVICE.
std::string data_path(const std::string& root, std::string_view service);

}  // namespace datom::service
