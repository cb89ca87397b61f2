// "host[:port],host[:port]/chroot" as people write it, and as the C client wants it.
#pragma once

#include <string>
#include <string_view>

namespace datom::coordination::zookeeper {

// Every host with its port (2181 unless given), IPv6 addresses without their brackets, the chroot
// last. Throws Error{invalid_argument} saying what is wrong.
std::string normal_server_list(std::string_view text);

}  // namespace datom::coordination::zookeeper
