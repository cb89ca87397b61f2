#include "rpc/rpc.h"

#include <utility>

#include "common/check.h"

namespace datom::rpc {

void Router::on_call(Method method, Handler handler) {
  const bool added = calls_.emplace(method, std::move(handler)).second;
  DATOM_CHECK(added);
}

void Router::on_message(Method method, MessageHandler handler) {
  const bool added = messages_.emplace(method, std::move(handler)).second;
  DATOM_CHECK(added);
}

const Router::Handler* Router::find_call(Method method) const {
  const auto found = calls_.find(method);
  return found == calls_.end() ? nullptr : &found->second;
}

const Router::MessageHandler* Router::find_message(Method method) const {
  const auto found = messages_.find(method);
  return found == messages_.end() ? nullptr : &found->second;
}

}  // namespace datom::rpc
