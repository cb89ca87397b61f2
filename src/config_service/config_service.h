// The config service: registry of nodes and services, and of the volumes that a domain should have.
// All its state is in the coordination tree; of several config services one is active, the rest
// stand by. While there is none, volumes go on serving.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "common/uuid.h"
#include "coordination/client.h"
#include "protocol/config_fwd.h"
#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "telemetry/log.h"

namespace datom::config_service {

struct ConfigServiceOptions {
  std::string domain;
  std::string service;  // its name
  std::string address;  // HOST:PORT that it publishes when it is active
  Uuid epoch;           // new at each start of the process
  std::int64_t pid = 0;
  runtime::Duration ask_timeout = std::chrono::seconds(2);  // for a volume server to answer
};

// Lives as long as one coordination session: when that expires it answers Error{unavailable}, and
// whoever booted it stops it and makes another on a new session.
//
// Every request but init() is answered by the active one only; the others throw Error{unavailable},
// naming the active one and its address, or what they wait for.
class ConfigService {
 public:
  // They must outlive it; all on `loop`.
  ConfigService(runtime::Loop& loop, runtime::Random& random, coordination::Client& client,
                rpc::Caller& caller, telemetry::Log log, ConfigServiceOptions options);
  // stop() must have returned, and no request be under way.
  ~ConfigService();

  // Reads the tree and takes the role that is free: active or standby. Returns at once.
  void start();
  // Waits until the tree is a datom instance and this one is active or stands by; until then its
  // own service cannot be registered. Throws Error{closed} when stopped, Error{session_expired},
  // Error{unsupported} with the reason when the tree cannot be served.
  runtime::Task<void> wait_ready();
  // Gives the role up and ends what runs in the background. What is being answered fails soon.
  runtime::Task<void> stop();
  bool is_active() const;

  // Answers the methods of config.proto. Before serving; this must outlive the requests.
  void register_handlers(rpc::Router& router);

  // The same, for those in this process. Errors are those of the registries (node_registry.h,
  // volume_registry.h, volume_mover.h, property_registry.h) besides the above.
  runtime::Task<protocol::InitReply> init(protocol::InitRequest request);
  runtime::Task<protocol::AddNodeReply> add_node(protocol::AddNodeRequest request);
  runtime::Task<protocol::RemoveNodeReply> remove_node(protocol::RemoveNodeRequest request);
  runtime::Task<protocol::ListNodesReply> list_nodes(protocol::ListNodesRequest request);
  runtime::Task<protocol::ListServicesReply> list_services(protocol::ListServicesRequest request);
  runtime::Task<protocol::CreateVolumeReply> create_volume(protocol::CreateVolumeRequest request);
  runtime::Task<protocol::ListVolumesReply> list_volumes(protocol::ListVolumesRequest request);
  runtime::Task<protocol::VolumeInfoReply> volume_info(protocol::VolumeInfoRequest request);
  // Throws Error{timeout} if servers that are up do not drop their replica in time; the removal
  // goes on nevertheless.
  runtime::Task<protocol::RemoveVolumeReply> remove_volume(protocol::RemoveVolumeRequest request);
  runtime::Task<protocol::SetVolumeReply> set_volume(protocol::SetVolumeRequest request);
  runtime::Task<protocol::MoveVolumeReply> move_volume(protocol::MoveVolumeRequest request);
  // Throws Error{timeout} if it is not undone in time; the undoing goes on.
  runtime::Task<protocol::CancelMoveReply> cancel_move(protocol::CancelMoveRequest request);
  runtime::Task<protocol::DrainNodeReply> drain_node(protocol::DrainNodeRequest request);
  runtime::Task<protocol::NodeInfoReply> node_info(protocol::NodeInfoRequest request);
  // See verify.h.
  runtime::Task<protocol::VerifyVolumeReply> verify_volume(protocol::VerifyVolumeRequest request);
  runtime::Task<protocol::ListPropertiesReply> list_properties(
      protocol::ListPropertiesRequest request);
  runtime::Task<protocol::GetPropertyReply> get_property(protocol::GetPropertyRequest request);
  runtime::Task<protocol::SetPropertyReply> set_property(protocol::SetPropertyRequest request);
  runtime::Task<protocol::StatusReply> status(protocol::StatusRequest request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::config_service
