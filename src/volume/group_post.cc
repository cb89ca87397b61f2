#include "volume/group_post.h"

#include <utility>

#include "protocol/methods.h"

namespace datom::volume {
namespace {

constexpr std::size_t kMostTogether = 256;

}  // namespace

void GroupPost::send(const std::string& service, const protocol::GroupMessage& message,
                     Buffer entries) {
  if (depth_ > 0 && entries.empty()) {
    std::vector<protocol::GroupMessage>& waiting = waiting_[service];
    waiting.push_back(message);
    if (waiting.size() >= kMostTogether) send_waiting(service);
    return;
  }
  if (!waiting_.empty()) send_waiting(service);
  // Entries are sealed: whoever receives them verifies them.
  caller_.send(service, protocol::method::kGroupMessage,
               {encode(message), std::move(entries), /*payload_sealed=*/true});
}

void GroupPost::send_waiting(const std::string& service) {
  const auto found = waiting_.find(service);
  if (found == waiting_.end()) return;
  const std::vector<protocol::GroupMessage> messages = std::move(found->second);
  waiting_.erase(found);
  if (messages.size() == 1) {
    caller_.send(service, protocol::method::kGroupMessage, {encode(messages.front()), {}});
  } else {
    caller_.send(service, protocol::method::kGroupMessages, {encode(messages), {}});
  }
}

void GroupPost::send_waiting() {
  while (!waiting_.empty()) send_waiting(std::string(waiting_.begin()->first));
}

}  // namespace datom::volume
