#include "coordination/client.h"

#include <utility>

#include "common/error.h"
#include "coordination/checks.h"

namespace datom::coordination {
namespace {

runtime::Task<void> create_if_missing(Client& client, std::string path) {
  try {
    co_await client.create(std::move(path), "");
  } catch (const Error& error) {
    if (error.code() != Code::already_exists) throw;
  }
}

}  // namespace

runtime::Task<void> ensure_path(Client& client, std::string path) {
  check_path(path);
  // The root too: with a chroot it is a node like any other, and may be missing.
  co_await create_if_missing(client, "/");
  for (std::size_t end = 1; end != std::string::npos && path != "/";) {
    end = path.find('/', end + 1);
    std::string prefix = path.substr(0, end);
    co_await create_if_missing(client, std::move(prefix));
  }
}

}  // namespace datom::coordination
