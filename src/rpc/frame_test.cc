#include "rpc/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/checksum.h"
#include "rpc/first_bytes.h"
#include "rpc/frame_reader.h"
#include "rpc/hello.h"
#include "rpc/send_queue.h"
#include "rpc/test_streams.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::rpc {
namespace {

using runtime::Task;
using testing::HasSubstr;

Buffer pattern(std::size_t size) {
  Buffer buffer = Buffer::allocate(size);
  for (std::size_t i = 0; i < size; ++i) {
    buffer.mutable_data()[i] = static_cast<std::byte>(i * 31 + (i >> 9));
  }
  return buffer;
}

Frame request(std::string header, Buffer payload) {
  return Frame{FrameKind::request, 201, 4711, Message{std::move(header), std::move(payload)}};
}

std::string encoded(const Frame& frame) {
  std::string bytes(as_text(encode_frame_header(frame)));
  bytes += frame.message.header;
  bytes += as_text(frame.message.payload.view());
  return bytes;
}

// Gives a reader the bytes in portions of `portion`, or as they come if that is 0.
class Feed {
 public:
  explicit Feed(std::string bytes, std::size_t portion = 0, FrameBounds bounds = {})
      : bytes_(std::move(bytes)),
        streams_(test::stream_pair(loop_, portion == 0 ? bytes_.size() + 1 : portion)),
        reader_(*streams_.second, bounds) {
    writing_.spawn(write(streams_.first.get(), &bytes_));
  }
  ~Feed() {
    streams_.second->close();
    loop_.run(writing_.close());
  }

  // nullopt at the end.
  std::optional<Frame> next() {
    std::optional<Frame> frame;
    loop_.run(read(&reader_, &frame));
    return frame;
  }
  Code error() {
    try {
      const bool frame = next().has_value();
      ADD_FAILURE() << (frame ? "passed for a frame" : "passed for the end");
      return Code{};
    } catch (const Error& error) {
      message_ = error.what();
      return error.code();
    }
  }
  const std::string& message() const { return message_; }

 private:
  static Task<void> write(runtime::Stream* stream, const std::string* bytes) {
    const ByteView pieces[] = {as_bytes(*bytes)};
    try {
      co_await stream->write(pieces);
    } catch (const Error&) {  // the reader had enough
    }
    stream->close();
  }
  static Task<void> read(FrameReader* reader, std::optional<Frame>* frame) {
    *frame = co_await reader->next();
  }

  runtime::VirtualLoop loop_;
  std::string bytes_;
  std::pair<std::unique_ptr<test::MemoryStream>, std::unique_ptr<test::MemoryStream>> streams_;
  FrameReader reader_;
  runtime::TaskGroup writing_{loop_, [](std::exception_ptr) { FAIL(); }};
  std::string message_;
};

void expect_same(const Frame& found, const Frame& expected) {
  EXPECT_EQ(found.kind, expected.kind);
  EXPECT_EQ(found.method, expected.method);
  EXPECT_EQ(found.request_id, expected.request_id);
  EXPECT_EQ(found.message.header, expected.message.header);
  EXPECT_EQ(as_text(found.message.payload.view()), as_text(expected.message.payload.view()));
}

TEST(Frame, ComesThroughWholeHoweverItIsCut) {
  const Frame frames[] = {
      request("", {}),
      request("header", {}),
      request("", pattern(4096)),
      request(std::string(300 << 10, 'h'), pattern(70 << 10)),
      request(std::string(kMaxHeaderBytes, 'h'), pattern(kMaxPayloadBytes)),
      request("last", pattern(1)),
  };
  std::string bytes;
  for (const Frame& frame : frames) bytes += encoded(frame);
  for (const std::size_t portion : {0, 4093, 65536, 1 << 20}) {
    Feed feed(bytes, portion);
    for (const Frame& frame : frames) {
      const std::optional<Frame> found = feed.next();
      ASSERT_TRUE(found.has_value());
      expect_same(*found, frame);
    }
    EXPECT_FALSE(feed.next().has_value());
  }
}

TEST(Frame, SmallFramesComeThroughByteByByte) {
  const Frame frame = request("header", pattern(100));
  Feed feed(encoded(frame) + encoded(frame), 1);
  expect_same(*feed.next(), frame);
  expect_same(*feed.next(), frame);
  EXPECT_FALSE(feed.next().has_value());
}

TEST(Frame, PayloadsAreAlignedForDirectWrites) {
  const std::string bytes = encoded(request("a", pattern(4096)));
  Feed feed(bytes + bytes + bytes);
  for (int i = 0; i < 3; ++i) {
    const Frame frame = *feed.next();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(frame.message.payload.data()) % 4096, 0u);
  }
}

// Every bit that is wrong, wherever it is, is found.
TEST(Frame, NoFlippedBitPasses) {
  const std::string good = encoded(request("head", pattern(64)));
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    Feed feed(bad);
    EXPECT_EQ(feed.error(), Code::corrupt) << "bit " << bit;
  }
}

TEST(Frame, ACutShortFrameIsNotTheEnd) {
  const std::string good = encoded(request("head", pattern(64)));
  for (std::size_t length = 1; length < good.size(); ++length) {
    Feed feed(good.substr(0, length));
    EXPECT_EQ(feed.error(), Code::closed) << length;
  }
}

// Field values that no checksum protects from a peer that means them.
std::string with_valid_checksum(std::string bytes) {
  const ByteView covered = as_bytes(std::string_view(bytes).substr(0, 40));
  store_le(reinterpret_cast<std::byte*>(bytes.data()) + 40, checksum(covered));
  return bytes;
}

template <typename Integer>
std::string frame_with(std::size_t at, Integer value) {
  std::string bytes = encoded(request("", {}));
  store_le(reinterpret_cast<std::byte*>(bytes.data()) + at, value);
  return with_valid_checksum(bytes);
}

TEST(Frame, LengthsOverTheBoundsAreRefusedBeforeAnythingIsReadOrAllocated) {
  Feed header(frame_with<std::uint32_t>(12, kMaxHeaderBytes + 1));
  EXPECT_EQ(header.error(), Code::too_large);
  EXPECT_THAT(header.message(), HasSubstr("1048577"));
  Feed payload(frame_with<std::uint32_t>(16, 0xffffffff));
  EXPECT_EQ(payload.error(), Code::too_large);
}

TEST(Frame, OfAnotherVersionKindOrReservedFieldIsRefused) {
  EXPECT_EQ(Feed(frame_with<std::uint16_t>(4, 2)).error(), Code::corrupt);
  EXPECT_EQ(Feed(frame_with<std::uint8_t>(6, 0)).error(), Code::corrupt);
  EXPECT_EQ(Feed(frame_with<std::uint8_t>(6, 7)).error(), Code::corrupt);
  EXPECT_EQ(Feed(frame_with<std::uint8_t>(7, 2)).error(), Code::corrupt);
  EXPECT_EQ(Feed(frame_with<std::uint16_t>(10, 1)).error(), Code::corrupt);
  EXPECT_EQ(Feed(frame_with<std::uint32_t>(20, 1)).error(), Code::corrupt);
}

TEST(Frame, OfASealedPayloadOnlyTheHeaderIsCovered) {
  Frame sealed = request("header", pattern(9000));
  sealed.message.payload_sealed = true;
  std::string bytes = encoded(sealed);
  bytes.back() ^= 1;
  Feed feed(bytes);
  const std::optional<Frame> frame = feed.next();
  ASSERT_TRUE(frame);
  EXPECT_TRUE(frame->message.payload_sealed);
  EXPECT_EQ(frame->message.payload.size(), 9000u);
  bytes[kFrameHeaderBytes] ^= 1;
  EXPECT_EQ(Feed(bytes).error(), Code::corrupt);
}

TEST(Frame, AStrangerMaySayLess) {
  Feed feed(encoded(request(std::string(4097, 'x'), {})), 0, kHelloBounds);
  EXPECT_EQ(feed.error(), Code::too_large);
  Feed with_payload(encoded(request("x", pattern(1))), 0, kHelloBounds);
  EXPECT_EQ(with_payload.error(), Code::too_large);
}

TEST(Frame, IsNotTakenForHttpNorTheOtherWayAround) {
  EXPECT_EQ(speech_of(encoded(request("", {}))), Speech::rpc);
  for (const char* method : {"GET ", "POST", "PUT ", "HEAD", "DELETE", "OPTIONS"}) {
    EXPECT_EQ(speech_of(std::string(method) + " / HTTP/1.1"), Speech::http) << method;
  }
  EXPECT_EQ(speech_of("SSH-2.0"), Speech::unknown);
  EXPECT_EQ(speech_of("get "), Speech::unknown);
}

TEST(ErrorFrame, CarriesCodeAndMessage) {
  const Error error = decode_error(encode_error(Error(Code::no_space, "disk of vs1 is full")));
  EXPECT_EQ(error.code(), Code::no_space);
  EXPECT_STREQ(error.what(), "disk of vs1 is full");
}

TEST(ErrorFrame, CutsALongMessageAndSurvivesACodeItDoesNotKnow) {
  EXPECT_LT(encode_error(Error(Code::internal, std::string(1 << 20, 'x'))).size(), 5000u);
  EXPECT_EQ(decode_error(std::string("\xff\x7fwhat", 6)).code(), Code::internal);
  EXPECT_THROW(decode_error("x"), Error);
}

TEST(Hello, ComesThrough) {
  const Hello hello{1, 7, "prod", "vs1", "vs2"};
  const Hello found = Hello::decode(hello.encode() + "what a later version adds");
  EXPECT_EQ(found.shard, 7u);
  EXPECT_EQ(found.domain, "prod");
  EXPECT_EQ(found.sender, "vs1");
  EXPECT_EQ(found.meant, "vs2");
}

TEST(Hello, CutShortIsCorrupt) {
  const std::string hello = Hello{1, 7, "prod", "vs1", "vs2"}.encode();
  for (std::size_t length = 0; length < hello.size(); ++length) {
    EXPECT_THROW(Hello::decode(hello.substr(0, length)), Error) << length;
  }
}

TEST(Hello, RefusalsNameBothSides) {
  const auto refusal = [](const Hello& hello) -> std::string {
    try {
      check_hello(hello, "prod", "vs2");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal({1, 0, "prod", "vs1", "vs2"}), "");
  EXPECT_EQ(refusal({1, 0, "", "", ""}), "") << "a command that knows nothing yet";
  EXPECT_EQ(refusal({2, 0, "prod", "vs1", "vs2"}),
            "\"vs1\" speaks protocol version 2, \"vs2\" speaks version 1");
  EXPECT_EQ(refusal({1, 0, "test", "vs1", "vs2"}),
            "\"vs1\" belongs to domain \"test\", but \"vs2\" to domain \"prod\"");
  EXPECT_EQ(refusal({1, 0, "prod", "vs1", "vs3"}),
            "meant for service \"vs3\", but this is service \"vs2\"");
}

// A stream that only notes what is written to it, and how.
class NotingStream final : public runtime::Stream {
 public:
  explicit NotingStream(runtime::Loop& loop) : loop_(loop) {}
  Task<std::size_t> read_some(MutableBytes) override { co_return 0; }
  Task<void> write(std::span<const ByteView> pieces) override {
    ++writes;
    for (const ByteView piece : pieces) {
      written += as_text(piece);
      addresses.push_back(piece.data());
    }
    co_await switch_to(loop_);
  }
  void close() override {}
  std::string peer() const override { return "nobody"; }
  runtime::NativeSocket release() override { return runtime::NativeSocket(); }

  int writes = 0;
  std::string written;
  std::vector<const std::byte*> addresses;

 private:
  runtime::Loop& loop_;
};

TEST(SendQueue, WhatOneTurnQueuesLeavesInOneWriteWithoutCopies) {
  runtime::VirtualLoop loop;
  NotingStream stream(loop);
  SendQueue queue(loop);
  FrameWriter writer(queue, stream);
  runtime::TaskGroup tasks(loop, [](std::exception_ptr) { FAIL(); });
  tasks.spawn(writer.run());
  const Buffer payload = pattern(4096);
  std::string expected;
  for (int i = 0; i < 10; ++i) {
    queue.push(request("h", payload));
    expected += encoded(request("h", payload));
  }
  EXPECT_EQ(queue.bytes(), expected.size());
  loop.run_ready();
  EXPECT_EQ(stream.writes, 1);
  EXPECT_EQ(stream.written, expected);
  EXPECT_EQ(std::ranges::count(stream.addresses, payload.data()), 10);
  EXPECT_EQ(queue.bytes(), 0u);
  writer.stop();
  loop.run(tasks.close());
}

TEST(SendQueue, DropsWhatIsNotWantedAnyMoreAndKeepsTheRestForAnotherStream) {
  runtime::VirtualLoop loop;
  NotingStream stream(loop);
  SendQueue queue(loop);
  queue.push(request("unwanted", {}));
  queue.push(request("wanted", {}));
  FrameWriter stopped(queue, stream);
  stopped.stop();
  loop.run(stopped.run());
  EXPECT_EQ(stream.written, "");
  FrameWriter writer(queue, stream,
                     [](const Frame& frame) { return frame.message.header == "wanted"; });
  writer.finish();
  loop.run(writer.run());
  EXPECT_EQ(stream.written, encoded(request("wanted", {})));
  EXPECT_EQ(queue.bytes(), 0u);
}

}  // namespace
}  // namespace datom::rpc
