// The messages of config.proto, declared for headers.
#pragma once

namespace datom::protocol {

class InitRequest;
class InitReply;
class AddNodeRequest;
class AddNodeReply;
class ListNodesRequest;
class ListNodesReply;
class RemoveNodeRequest;
class RemoveNodeReply;
class ListServicesRequest;
class ListServicesReply;
class CreateVolumeRequest;
class CreateVolumeReply;
class ListVolumesRequest;
class ListVolumesReply;
class VolumeInfoRequest;
class VolumeInfoReply;
class RemoveVolumeRequest;
class RemoveVolumeReply;
class StatusRequest;
class StatusReply;
class ListPropertiesRequest;
class ListPropertiesReply;
class GetPropertyRequest;
class GetPropertyReply;
class SetPropertyRequest;
class SetPropertyReply;
class SetVolumeRequest;
class SetVolumeReply;
class MoveVolumeRequest;
class MoveVolumeReply;
class CancelMoveRequest;
class CancelMoveReply;
class DrainNodeRequest;
class DrainNodeReply;
class NodeInfoRequest;
class NodeInfoReply;
class VerifyVolumeRequest;
class VerifyVolumeReply;
class Node;
class Property;
class Service;
class Volume;

}  // namespace datom::protocol
