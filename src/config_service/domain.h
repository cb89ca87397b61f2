// A domain as the coordination tree holds it, read into memory.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coordination/client.h"
#include "protocol/records.h"
#include "rpc/connection_cache.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::config_service {

template <typename Record>
struct Versioned {
  Record record;
  coordination::Version version = 0;
};

template <typename Record>
using Records = std::map<std::string, Versioned<Record>>;  // by name

struct Domain {
  std::string name;
  Records<protocol::NodeRecord> nodes;
  Records<protocol::ServiceRecord> services;
  Records<rpc::Instance> instances;  // of the services that are up
  Records<protocol::VolumeRecord> volumes;
  Records<protocol::GroupRecord> groups;  // by the volume's uuid, as text
  // Of the node above the volumes: it changes with each volume created, so that whoever decided
  // from this reading that there is none can check it.
  coordination::Version volumes_version = 0;

  // Who keeps the volume, or is to: voters, those that are about to vote, and learners of its
  // group, then whoever else its record lists. A service may be there twice (records.h).
  std::vector<protocol::ReplicaRecord> replicas_of(const protocol::VolumeRecord& volume) const;
  // The node of a service, "" if the service is unknown.
  std::string node_of(const std::string& service) const;
};

// All of it. What comes or goes while it is read may or may not be there. Throws Error{corrupt}
// naming the path of a record that makes no sense.
runtime::Task<Domain> read_domain(runtime::Loop& loop, coordination::Client& client,
                                  std::string name);
// Nodes, services and instances only.
runtime::Task<Domain> read_services(runtime::Loop& loop, coordination::Client& client,
                                    std::string name);
// One volume, its group, and the services that keep it; `volumes` is empty if there is no such
// volume.
runtime::Task<Domain> read_volume(runtime::Loop& loop, coordination::Client& client,
                                  std::string name, std::string volume);

// Throws Error{invalid_argument}: "volume name 'A b' ..."; `what` is "volume", "node"...
void check_name(std::string_view what, std::string_view name);

// Runs the multi. False if it had no effect because the tree has changed: read again. Other errors,
// and outcome_unknown, are thrown.
runtime::Task<bool> commit(coordination::Client& client,
                           std::vector<coordination::Operation> operations);

}  // namespace datom::config_service
