#include "rpc/service_link.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "protocol/records.h"
#include "rpc/dispatch.h"

namespace datom::rpc {
namespace {

using runtime::Task;

// Between attempts; doubled with each failure. Short, since a failover may wait for it.
constexpr runtime::Duration kFirstPause = std::chrono::milliseconds(10);
constexpr int kMostDoublings = 4;

runtime::Duration pause_after(int failures) {
  return kFirstPause * (1 << std::clamp(failures - 1, 0, kMostDoublings));
}

bool is_address(const std::string& service) {
  return service.starts_with('@');
}

}  // namespace

ServiceLink::ServiceLink(LinkContext context, std::string service)
    : context_(context),
      service_(std::move(service)),
      queue_(context.loop),
      calls_(context.loop, service_) {
  if (is_address(service_)) {
    fixed_ = runtime::Address::parse(service_.substr(1));
    return;
  }
  if (!protocol::valid_name(service_)) {
    throw Error(Code::invalid_argument, "\"{}\" is no service name", service_);
  }
  instance_ = std::make_unique<InstanceWatch>(context.loop, context.coordination, context.tasks,
                                              context.options.domain, service_,
                                              [this] { coordination_has_news(); });
}

ServiceLink::~ServiceLink() {
  DATOM_CHECK(stopped_);
}

bool ServiceLink::has_room(const Frame& frame) const {
  return queue_.bytes() + frame.wire_bytes() <= context_.options.max_queued_bytes;
}

Task<Message> ServiceLink::call(Method method, Message request, runtime::Duration timeout) {
  check_bounds(request);
  if (stopped_) throw Error(Code::closed, "connections are closed");
  if (calls_.size() >= context_.options.max_in_flight) {
    throw Error(Code::too_large, "{} requests to service \"{}\" are under way already",
                calls_.size(), service_);
  }
  Frame frame{FrameKind::request, method, 0, std::move(request)};
  if (!has_room(frame)) {
    throw Error(Code::too_large,
                "{} bytes are queued for service \"{}\" already, at most {} may be", queue_.bytes(),
                service_, context_.options.max_queued_bytes);
  }
  PendingCall pending(calls_, method, context_.loop.now() + timeout);
  frame.request_id = pending.id();
  queue_.push(std::move(frame));
  want_connection();
  Message reply = co_await pending.wait();
  co_return reply;
}

void ServiceLink::send(Method method, Message message) {
  check_bounds(message);
  if (stopped_) return;
  Frame frame{FrameKind::message, method, 0, std::move(message)};
  if (!has_room(frame)) {
    if (!std::exchange(dropping_, true)) {
      context_.options.log.warn("rpc.peer_too_slow",
                                {{"peer", service_}, {"queued_bytes", queue_.bytes()}},
                                "dropping messages to it");
    }
    return;
  }
  dropping_ = false;
  queue_.push(std::move(frame));
  want_connection();
}

void ServiceLink::want_connection() {
  if (stopped_ || state_ != State::kIdle) return;
  if (instance_) instance_->refresh();
  if (instance_ && instance_->certainly_absent()) {
    attempt_failed(instance_->absence());
  } else if (context_.loop.now() >= not_before_) {
    begin_attempt();
  } else {
    state_ = State::kWaiting;
    due_ = context_.loop.start_timer(not_before_, [this] {
      due_.reset();
      begin_attempt();
    });
  }
}

void ServiceLink::begin_attempt() {
  state_ = State::kAttempting;
  context_.tasks.spawn(attempt(++generation_));
}

Task<void> ServiceLink::attempt(std::uint64_t generation) {
  std::unique_ptr<ClientConnection> connection;
  std::optional<Error> failure;
  try {
    co_await connect(generation, connection);
  } catch (const std::exception& error) {
    failure =
        Error(Code::unavailable, "service \"{}\" cannot be reached: {}", service_, error.what());
  }
  if (generation != generation_) co_return;
  if (failure) {
    attempt_failed(*failure);
    co_return;
  }
  connected();
  const Error reason = co_await connection->run();
  if (generation == generation_) broken(reason);
}

// Leaves `connection` empty if the attempt was superseded.
Task<void> ServiceLink::connect(std::uint64_t generation,
                                std::unique_ptr<ClientConnection>& connection) {
  const runtime::Address address = co_await locate();
  if (generation != generation_) co_return;
  std::unique_ptr<runtime::Stream> stream =
      co_await context_.network.connect(address, context_.options.connect_timeout);
  if (generation != generation_) co_return;
  connection = std::make_unique<ClientConnection>(context_.loop, std::move(stream), queue_, calls_);
  connection_ = connection.get();
  co_await connection_->greet(hello(), context_.options.connect_timeout);
}

// An address known from before will do; only where there is none the lookup is waited for.
Task<runtime::Address> ServiceLink::locate() {
  if (fixed_) co_return *fixed_;
  if (!instance_->known()) co_await instance_->looked_up();
  if (stopped_) throw Error(Code::closed, "connections are closed");
  if (!instance_->known()) throw instance_->absence();
  target_ = instance_->known();
  co_return target_->address;
}

Hello ServiceLink::hello() const {
  Hello hello;
  hello.shard = context_.options.shard;
  hello.domain = context_.options.domain;
  hello.sender = context_.options.self;
  if (!fixed_) hello.meant = service_;
  return hello;
}

void ServiceLink::connected() {
  state_ = State::kConnected;
  failures_ = 0;
  context_.options.log.debug("rpc.connected", {{"peer", service_}});
  context_.watchers.up(service_);
}

void ServiceLink::attempt_failed(const Error& error) {
  supersede();
  ++failures_;
  not_before_ = context_.loop.now() + pause_after(failures_);
  if (failures_ == 1) {
    context_.options.log.info("rpc.unreachable", {{"peer", service_}}, error.what());
  }
  fail_all(error, error);
  context_.watchers.down(service_);
}

void ServiceLink::broken(const Error& reason) {
  supersede();
  not_before_ = context_.loop.now() + kFirstPause;
  context_.options.log.info("rpc.connection_broke", {{"peer", service_}}, reason.what());
  fail_all(Error(Code::outcome_unknown, "the connection to service \"{}\" broke: {}", service_,
                 reason.what()),
           Error(Code::unavailable, "the connection to service \"{}\" broke: {}", service_,
                 reason.what()));
  context_.watchers.down(service_);
}

void ServiceLink::coordination_has_news() {
  if (stopped_) return;
  if (instance_->certainly_absent()) {
    departed();
  } else if (instance_->known() && target_ != instance_->known()) {
    moved();
  }
}

void ServiceLink::departed() {
  context_.options.log.info("rpc.departed", {{"peer", service_}}, instance_->absence().what());
  supersede();
  target_.reset();
  fail_all(Error(Code::outcome_unknown, "service \"{}\" has left", service_), instance_->absence());
  context_.watchers.down(service_);
}

// A connection to an address that stays is kept, even if the service was started anew: that would
// have broken it.
void ServiceLink::moved() {
  const bool elsewhere = target_ && target_->address != instance_->known()->address;
  const bool under_way = state_ == State::kAttempting || state_ == State::kConnected;
  const bool was_connected = state_ == State::kConnected;
  target_ = instance_->known();
  failures_ = 0;
  not_before_ = runtime::Time{};
  if (under_way && !elsewhere) return;
  supersede();
  calls_.reject_sent(
      Error(Code::outcome_unknown, "service \"{}\" moved to another address", service_));
  if (was_connected) context_.watchers.down(service_);
  if (!queue_.empty()) want_connection();
}

void ServiceLink::supersede() {
  ++generation_;
  state_ = State::kIdle;
  if (connection_ != nullptr) std::exchange(connection_, nullptr)->close();
  if (due_) context_.loop.cancel_timer(*due_);
  due_.reset();
}

void ServiceLink::fail_all(const Error& sent, const Error& not_sent) {
  queue_.clear();
  calls_.reject_all(sent, not_sent);
}

void ServiceLink::coordination_is_back() {
  if (instance_ && !stopped_) instance_->refresh();
}

void ServiceLink::stop() {
  stopped_ = true;
  supersede();
  if (instance_) instance_->stop();
  const Error closed(Code::closed, "connections are closed");
  fail_all(closed, closed);
}

}  // namespace datom::rpc
