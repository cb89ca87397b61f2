#include "rpc/peer_watchers.h"

#include <utility>
#include <vector>

namespace datom::rpc {

struct PeerWatchers::Watchers {
  struct Watcher {
    Caller::OnPeer on_up;
    Caller::OnPeer on_down;
  };

  class Handle final : public Caller::Subscription {
   public:
    Handle(std::shared_ptr<Watchers> watchers, std::uint64_t id)
        : watchers_(std::move(watchers)), id_(id) {}
    ~Handle() override { watchers_->all.erase(id_); }

   private:
    std::shared_ptr<Watchers> watchers_;
    std::uint64_t id_;
  };

  void tell(const std::string& service, bool up) const {
    std::vector<std::uint64_t> ids;
    for (const auto& [id, watcher] : all) ids.push_back(id);
    for (const std::uint64_t id : ids) {
      const auto found = all.find(id);
      if (found == all.end()) continue;  // one of the others ended this watch
      const Caller::OnPeer told = up ? found->second.on_up : found->second.on_down;
      if (told) told(service);
    }
  }

  std::uint64_t next_id = 1;
  std::map<std::uint64_t, Watcher> all;
};

PeerWatchers::PeerWatchers(runtime::Loop& loop)
    : loop_(loop), watchers_(std::make_shared<Watchers>()) {}

PeerWatchers::~PeerWatchers() = default;

std::unique_ptr<Caller::Subscription> PeerWatchers::add(Caller::OnPeer on_up,
                                                        Caller::OnPeer on_down) {
  const std::uint64_t id = watchers_->next_id++;
  watchers_->all.emplace(id, Watchers::Watcher{std::move(on_up), std::move(on_down)});
  return std::make_unique<Watchers::Handle>(watchers_, id);
}

void PeerWatchers::up(const std::string& service) {
  tell(service, true);
}
void PeerWatchers::down(const std::string& service) {
  tell(service, false);
}

void PeerWatchers::tell(const std::string& service, bool up) {
  loop_.post([watchers = std::weak_ptr(watchers_), service, up] {
    if (const auto living = watchers.lock()) living->tell(service, up);
  });
}

}  // namespace datom::rpc
