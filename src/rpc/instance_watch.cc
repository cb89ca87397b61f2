#include "rpc/instance_watch.h"

#include <utility>

#include "protocol/records.h"
#include "rpc/connection_cache.h"

namespace datom::rpc {

using runtime::Task;

InstanceWatch::InstanceWatch(runtime::Loop& loop, coordination::Client& coordination,
                             runtime::TaskGroup& tasks, std::string domain, std::string service,
                             std::function<void()> on_news)
    : loop_(loop),
      coordination_(coordination),
      tasks_(tasks),
      domain_(std::move(domain)),
      service_(std::move(service)),
      on_news_(std::move(on_news)),
      ended_(loop) {}

void InstanceWatch::refresh() {
  if (watching_ || stopped_ || std::exchange(looking_up_, true)) return;
  tasks_.spawn(look_up());
}

void InstanceWatch::changed() {
  watching_ = false;
  fired_ = true;
  refresh();
}

Task<void> InstanceWatch::looked_up() {
  while (looking_up_ && !stopped_) co_await ended_.wait();
}

void InstanceWatch::stop() {
  stopped_ = true;
  watch_.reset();
  ended_.wake_all();
}

Task<void> InstanceWatch::look_up() {
  // Never from inside the watch that told of a change: it is replaced here.
  co_await switch_to(loop_);
  Answer answer;
  do {
    fired_ = false;
    answer = co_await ask();
  } while (fired_ && !answer.failure && !stopped_);
  looking_up_ = false;
  ended_.wake_all();
  if (stopped_) co_return;
  take(std::move(answer));
  on_news_();
}

Task<InstanceWatch::Answer> InstanceWatch::ask() {
  Answer answer;
  try {
    answer.node = co_await coordination_.get(
        protocol::paths::service_instance(domain_, service_), [this] { changed(); }, answer.watch);
    answer.registered = answer.node.has_value();
    if (!answer.node) {
      const std::optional<coordination::Node> service =
          co_await coordination_.get(protocol::paths::service(domain_, service_));
      answer.registered = service.has_value();
    }
  } catch (const Error& error) {
    answer.failure = error;
  }
  co_return answer;
}

void InstanceWatch::take(Answer answer) {
  watching_ = !answer.failure;
  watch_ = std::move(answer.watch);
  if (answer.failure) {
    absence_ = Error(Code::unavailable, "coordination cannot say where service \"{}\" is: {}",
                     service_, answer.failure->what());
    return;
  }
  known_.reset();
  if (!answer.registered) {
    absence_ = Error(Code::not_found, "domain \"{}\" has no service \"{}\"", domain_, service_);
  } else if (!answer.node) {
    absence_ = Error(Code::unavailable, "service \"{}\" is not up", service_);
  } else {
    take_instance(answer.node->data);
  }
}

void InstanceWatch::take_instance(const std::string& json) {
  try {
    const Instance instance = Instance::from_json(json);
    known_ = Known{runtime::Address::parse(instance.address), instance.epoch};
  } catch (const Error& error) {
    absence_ =
        Error(Code::unavailable, "service \"{}\" publishes no address: {}", service_, error.what());
  }
}

}  // namespace datom::rpc
