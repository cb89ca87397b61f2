// A server on a VirtualLoop with two volumes, and clients that speak the wire format by hand.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/memory_export.h"
#include "nbd/server.h"
#include "nbd/testing/controlled_exports.h"
#include "nbd/testing/peer.h"
#include "nbd/wire.h"
#include "runtime/virtual_loop.h"
#include "telemetry/log.h"

namespace datom::nbd::testing {

inline constexpr std::uint64_t kVolumeSize = 1 << 20;

// Big-endian fields out of what a server sent.
class Received {
 public:
  explicit Received(std::string bytes) : bytes_(std::move(bytes)) {}

  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    for (const char c : text(size)) value = value << 8 | static_cast<unsigned char>(c);
    return value;
  }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  std::uint64_t u64() { return number(8); }
  std::string text(std::size_t size) {
    EXPECT_LE(size, left()) << "the server sent less than expected";
    std::string taken = bytes_.substr(at_, size);
    taken.resize(size);
    at_ += size;
    return taken;
  }
  std::size_t left() const { return at_ > bytes_.size() ? 0 : bytes_.size() - at_; }
  bool empty() const { return left() == 0; }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

struct OptionAnswer {
  std::uint32_t option = 0;
  OptionReply type{};
  std::string data;
};

// One reply of the transmission phase, simple or a structured chunk.
struct Answer {
  bool structured = false;
  std::uint16_t type = 0;  // of a chunk
  std::uint32_t error = 0;
  std::uint64_t cookie = 0;
  std::string data;  // content of a read, message of an error, or descriptors
};

class TestClient {
 public:
  TestClient(runtime::VirtualLoop& loop, std::shared_ptr<Peer> peer)
      : peer(std::move(peer)), loop_(loop) {}

  void send(const Encoder& message) {
    peer->send(message.view());
    loop_.run_ready();
  }
  Received receive() { return Received(peer->take()); }

  void greet(std::uint32_t flags = kFixedNewstyle | kNoZeroes) {
    loop_.run_ready();
    Received greeting = receive();
    EXPECT_EQ(greeting.u64(), kServerMagic);
    EXPECT_EQ(greeting.u64(), kOptionMagic);
    EXPECT_EQ(greeting.u16(), kFixedNewstyle | kNoZeroes);
    EXPECT_TRUE(greeting.empty());
    send(Encoder().u32(flags));
  }

  static Encoder option(std::uint32_t option, std::string_view data) {
    Encoder message;
    message.u64(kOptionMagic).u32(option).u32(static_cast<std::uint32_t>(data.size())).text(data);
    return message;
  }
  std::vector<OptionAnswer> ask(Option name, const Encoder& data = {}) {
    send(option(static_cast<std::uint32_t>(name), as_text(data.view())));
    return option_answers();
  }
  std::vector<OptionAnswer> option_answers() {
    std::vector<OptionAnswer> answers;
    Received received = receive();
    while (!received.empty()) {
      EXPECT_EQ(received.u64(), kOptionReplyMagic);
      OptionAnswer answer;
      answer.option = received.u32();
      answer.type = OptionReply{received.u32()};
      answer.data = received.text(received.u32());
      answers.push_back(std::move(answer));
    }
    return answers;
  }

  static Encoder info_request(std::string_view name, const std::vector<std::uint16_t>& items = {}) {
    Encoder data;
    data.u32(static_cast<std::uint32_t>(name.size())).text(name);
    data.u16(static_cast<std::uint16_t>(items.size()));
    for (const std::uint16_t item : items) data.u16(item);
    return data;
  }
  static Encoder context_request(std::string_view name, const std::vector<std::string>& queries) {
    Encoder data;
    data.u32(static_cast<std::uint32_t>(name.size())).text(name);
    data.u32(static_cast<std::uint32_t>(queries.size()));
    for (const std::string& query : queries) {
      data.u32(static_cast<std::uint32_t>(query.size())).text(query);
    }
    return data;
  }

  // Attaches to an export with all that can be negotiated, or with nothing.
  void attach(std::string_view name, bool structured = true) {
    greet();
    structured_ = structured;
    if (structured) {
      EXPECT_EQ(ask(Option::structured_reply).back().type, OptionReply::ack);
      EXPECT_EQ(ask(Option::set_meta_context, context_request(name, {"base:allocation"})).size(),
                2u);
    }
    EXPECT_EQ(ask(Option::go, info_request(name)).back().type, OptionReply::ack);
  }

  static Encoder request(std::uint16_t command, std::uint64_t cookie, std::uint64_t offset,
                         std::uint32_t length, std::uint16_t flags = 0,
                         std::string_view payload = {}) {
    Encoder message;
    message.u32(kRequestMagic).u16(flags).u16(command).u64(cookie).u64(offset).u32(length);
    message.text(payload);
    return message;
  }
  void command(Command name, std::uint64_t cookie, std::uint64_t offset, std::uint32_t length,
               std::uint16_t flags = 0, std::string_view payload = {}) {
    send(request(static_cast<std::uint16_t>(name), cookie, offset, length, flags, payload));
  }
  // `read_length`: how much a simple reply to a read carries.
  std::vector<Answer> answers(std::uint32_t read_length = 0) {
    std::vector<Answer> found;
    Received received = receive();
    while (!received.empty()) {
      Answer answer;
      answer.structured = received.u32() == kStructuredReplyMagic;
      if (answer.structured) {
        EXPECT_EQ(received.u16(), kChunkDone);
        answer.type = received.u16();
        answer.cookie = received.u64();
        Received payload(received.text(received.u32()));
        if (answer.type == kChunkError) {
          answer.error = payload.u32();
          answer.data = payload.text(payload.u16());
        } else if (answer.type == kChunkOffsetData) {
          chunk_offset = payload.u64();
        }
        if (answer.type != kChunkError) answer.data = payload.text(payload.left());
      } else {
        answer.error = received.u32();
        answer.cookie = received.u64();
        if (answer.error == 0) answer.data = received.text(read_length);
      }
      found.push_back(std::move(answer));
    }
    return found;
  }
  // Sends one command and gives its one answer.
  Answer call(Command name, std::uint64_t at, std::uint32_t length, std::uint16_t flags = 0,
              std::string_view payload = {}) {
    command(name, ++cookie_, at, length, flags, payload);
    std::vector<Answer> found =
        answers(!structured_ && name == Command::read ? length : std::uint32_t{0});
    if (found.size() != 1) {
      ADD_FAILURE() << found.size() << " answers instead of one";
      return {};
    }
    EXPECT_EQ(found.front().cookie, cookie_);
    return found.front();
  }

  std::shared_ptr<Peer> peer;
  std::uint64_t chunk_offset = 0;  // of the last data chunk

 private:
  runtime::VirtualLoop& loop_;
  bool structured_ = false;
  std::uint64_t cookie_ = 0;
};

class NoNetwork final : public runtime::Network {
 public:
  runtime::Task<std::unique_ptr<runtime::Stream>> connect(runtime::Address,
                                                          runtime::Duration) override {
    throw Error(Code::unsupported, "no network");
  }
  std::unique_ptr<runtime::Listener> listen(const runtime::Address&) override {
    throw Error(Code::unsupported, "no network");
  }
  std::unique_ptr<runtime::Stream> adopt(runtime::NativeSocket) override {
    throw Error(Code::unsupported, "no network");
  }
};

class VirtualServer {
 public:
  explicit VirtualServer(ServerOptions options = {})
      : control(loop),
        controlled(control, exports),
        server(loop, network, controlled, options, telemetry::Log::silent()) {
    ExportInfo db{.name = "db", .size = kVolumeSize, .description = "the database"};
    volume = &exports.add(db, {&loop, &network});
    exports.add({.name = "archive", .size = kVolumeSize, .description = "", .read_only = true},
                {&loop, &network});
    auto opened = std::make_unique<PeerListener>(loop, arrivals_);
    listener_ = opened.get();
    server.serve(std::move(opened));
  }
  ~VirtualServer() {
    if (!stopped_) stop();
  }

  TestClient connect() {
    auto peer = std::make_shared<Peer>(loop);
    arrivals_.push_back(peer);
    listener_->arrived();
    loop.run_ready();
    return TestClient(loop, peer);
  }
  void stop() {
    stopped_ = true;
    loop.run(server.stop());
  }

  runtime::VirtualLoop loop;
  NoNetwork network;
  MemoryExports exports;
  MemoryVolume* volume = nullptr;
  Control control;
  ControlledExports controlled;
  Server server;

 private:
  std::deque<std::shared_ptr<Peer>> arrivals_;
  PeerListener* listener_ = nullptr;
  bool stopped_ = false;
};

}  // namespace datom::nbd::testing
