// The JSON records of the coordination tree. First byte: which.
#include "protocol/records.h"

#include "common/check.h"
#include "common/error.h"
#include "fuzz/input.h"
#include "fuzz/target.h"

namespace datom::fuzz {
namespace {

// What is read is written so that it reads the same.
template <typename Record>
void read(std::string_view text) {
  const std::string once = Record::from_json(text).to_json();
  DATOM_CHECK(Record::from_json(once).to_json() == once);
}

constexpr void (*kReaders[])(std::string_view) = {
    read<protocol::InstanceRecord>, read<protocol::ActiveRecord>,  read<protocol::PropertyRecord>,
    read<protocol::NodeRecord>,     read<protocol::ServiceRecord>, read<protocol::VolumeRecord>,
    read<protocol::GroupRecord>};

template <typename Record>
std::string seed(char which, const Record& record) {
  return which + record.to_json();
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  const auto reader = kReaders[input.byte() % std::size(kReaders)];
  try {
    reader(as_text(input.rest()));
  } catch (const Error&) {
  }
}

std::map<std::string, std::string> seeds() {
  const Uuid uuid = Uuid::from_random(1, 2);
  protocol::NodeRecord node;
  node.uuid = uuid;
  node.host = "host1";
  node.hardware.disks.push_back({"nvme0n1", "model", 1ull << 40, false});
  node.hardware.links.push_back({"eth0", {"192.0.2.1"}, 1000});
  protocol::ServiceRecord service;
  service.node = "n1";
  service.port = 7400;
  protocol::VolumeRecord volume;
  volume.id = uuid;
  volume.name = "db";
  volume.size = 1 << 20;
  volume.replicas = {{"vs1", uuid}, {"vs2", Uuid::from_random(3, 4)}};
  protocol::GroupRecord group;
  group.term = Term(7);
  group.phase = protocol::Phase::leader;
  group.leader = "vs1";
  group.voters = volume.replicas;
  group.learners = {{{"vs3", Uuid::from_random(5, 6)}, uuid}};
  return {{"instance", seed(0, protocol::InstanceRecord{1, uuid})},
          {"active", seed(1, protocol::ActiveRecord{"cs1", "192.0.2.7:7400", uuid, 42})},
          {"property", seed(2, protocol::PropertyRecord{"5", "root@host", "2024-01-01T00:00:00Z"})},
          {"node", seed(3, node)},
          {"service", seed(4, service)},
          {"volume", seed(5, volume)},
          {"group", seed(6, group)}};
}

}  // namespace datom::fuzz
