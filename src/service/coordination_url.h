// Where coordination is: what --coordination takes and node.json keeps.
#pragma once

#include <string>
#include <string_view>

namespace datom::service {

struct CoordinationUrl {
  enum class Kind {
    zookeeper,       // "zk://host:2181[,host...][/chroot]"
    config_service,  // "config://HOST:PORT": no coordination of one's own; ask this config service
  };

  Kind kind = Kind::zookeeper;
  // zookeeper: "host:port,host:port/chroot", each with its port; config_service: "HOST:PORT".
  std::string target;

  // Throws Error{invalid_argument} saying what is wrong. A missing ZooKeeper port is 2181.
  static CoordinationUrl parse(std::string_view text);
  std::string to_string() const;
  bool operator==(const CoordinationUrl&) const = default;
};

}  // namespace datom::service
