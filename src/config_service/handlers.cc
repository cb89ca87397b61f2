// The config service's methods, as they come over RPC.
#include "common/error.h"
#include "config_service/config_service.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"

namespace datom::config_service {
namespace {

using runtime::Task;

template <typename Request, typename Reply>
using Method = Task<Reply> (ConfigService::*)(Request);

template <typename Request, typename Reply>
Task<rpc::Message> serve(ConfigService& service, Method<Request, Reply> method,
                         rpc::Message message) {
  Request request;
  if (!request.ParseFromString(message.header)) {
    throw Error(Code::invalid_argument, "the request is not a {}",
                Request::descriptor()->full_name());
  }
  const Reply reply = co_await (service.*method)(std::move(request));
  rpc::Message answer;
  answer.header = reply.SerializeAsString();
  co_return answer;
}

template <typename Request, typename Reply>
rpc::Router::Handler handler(ConfigService* service, Method<Request, Reply> method) {
  return [service, method](const rpc::Peer&, rpc::Message message) {
    return serve(*service, method, std::move(message));
  };
}

}  // namespace

void ConfigService::register_handlers(rpc::Router& router) {
  namespace method = protocol::method;
  router.on_call(method::kInit, handler(this, &ConfigService::init));
  router.on_call(method::kAddNode, handler(this, &ConfigService::add_node));
  router.on_call(method::kRemoveNode, handler(this, &ConfigService::remove_node));
  router.on_call(method::kListNodes, handler(this, &ConfigService::list_nodes));
  router.on_call(method::kListServices, handler(this, &ConfigService::list_services));
  router.on_call(method::kCreateVolume, handler(this, &ConfigService::create_volume));
  router.on_call(method::kListVolumes, handler(this, &ConfigService::list_volumes));
  router.on_call(method::kVolumeInfo, handler(this, &ConfigService::volume_info));
  router.on_call(method::kRemoveVolume, handler(this, &ConfigService::remove_volume));
  router.on_call(method::kSetVolume, handler(this, &ConfigService::set_volume));
  router.on_call(method::kMoveVolume, handler(this, &ConfigService::move_volume));
  router.on_call(method::kCancelMove, handler(this, &ConfigService::cancel_move));
  router.on_call(method::kDrainNode, handler(this, &ConfigService::drain_node));
  router.on_call(method::kNodeInfo, handler(this, &ConfigService::node_info));
  router.on_call(method::kVerifyVolume, handler(this, &ConfigService::verify_volume));
  router.on_call(method::kListProperties, handler(this, &ConfigService::list_properties));
  router.on_call(method::kGetProperty, handler(this, &ConfigService::get_property));
  router.on_call(method::kSetProperty, handler(this, &ConfigService::set_property));
  router.on_call(method::kStatus, handler(this, &ConfigService::status));
}

}  // namespace datom::config_service
