// Hardware as message and as text. Included in .cc files only: it needs protobuf.
#pragma once

#include <string>

#include "protocol/config.pb.h"
#include "protocol/records.h"

namespace datom::cli {

protocol::Hardware hardware_message(const protocol::HardwareRecord& hardware);

// Some lines for people.
std::string hardware_text(const protocol::Hardware& hardware);

}  // namespace datom::cli
