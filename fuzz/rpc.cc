// RPC: what arrives on a connection, from the first bytes to decoded frames. First byte: size of
// the pieces; second: bit 0 set if the rest describes frames that are to be sealed with good
// checksums.
#include "fuzz/feed_stream.h"
#include "fuzz/input.h"
#include "fuzz/target.h"
#include "protocol/group_messages.h"
#include "rpc/first_bytes.h"
#include "rpc/frame_reader.h"
#include "rpc/hello.h"
#include "runtime/virtual_loop.h"

namespace datom::fuzz {
namespace {

void append(std::string& out, const rpc::Frame& frame) {
  const rpc::EncodedFrameHeader header = rpc::encode_frame_header(frame);
  out += as_text(header);
  out += frame.message.header;
  out += as_text(frame.message.payload.view());
}

std::string sealed_frames(Input& input) {
  std::string frames;
  while (!input.empty()) {
    rpc::Frame frame;
    frame.kind = static_cast<rpc::FrameKind>(input.byte());
    frame.method = input.number<rpc::Method>();
    frame.request_id = input.byte();
    const std::size_t header = input.number<std::uint16_t>();
    const std::size_t payload = input.number<std::uint16_t>();
    frame.message.header = as_text(input.piece(header));
    frame.message.payload = Buffer::copy_of(input.piece(payload));
    append(frames, frame);
  }
  return frames;
}

void decode(const rpc::Frame& frame) {
  try {
    switch (frame.kind) {
      case rpc::FrameKind::hello:
      case rpc::FrameKind::hello_reply:
        rpc::check_hello(rpc::Hello::decode(frame.message.header), "domain", "vs1");
        break;
      case rpc::FrameKind::error:
        rpc::decode_error(frame.message.header);
        break;
      default:
        protocol::decode_group_message(frame.message.header);
    }
  } catch (const Error&) {
  }
}

runtime::Task<void> read_frames(runtime::Stream& stream, std::size_t& count) {
  rpc::FrameReader reader(stream, rpc::kHelloBounds);
  try {
    for (;;) {
      const std::optional<rpc::Frame> frame = co_await reader.next();
      if (!frame) co_return;
      ++count;
      DATOM_CHECK(frame->message.header.size() <= rpc::kMaxHeaderBytes);
      decode(*frame);
      reader.set_bounds({});
    }
  } catch (const Error&) {
  }
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  const std::size_t piece = input.byte();
  const bool sealed = (input.byte() & 1) != 0;
  std::string frames;
  frames = sealed ? sealed_frames(input) : std::string(as_text(input.rest()));
  if (frames.size() >= rpc::kFirstBytes) rpc::speech_of(frames);
  runtime::VirtualLoop loop;
  FeedStream stream(loop, as_bytes(frames), piece);
  std::size_t count = 0;
  loop.run(read_frames(stream, count));
}

std::map<std::string, std::string> seeds() {
  rpc::Frame hello;
  hello.kind = rpc::FrameKind::hello;
  hello.message.header = rpc::Hello{rpc::kProtocolVersion, 0, "domain", "vs2", "vs1"}.encode();
  rpc::Frame message;
  message.kind = rpc::FrameKind::message;
  message.method = 200;
  message.message.header =
      protocol::encode({Uuid::from_random(1, 2), Uuid::from_random(3, 4), Uuid::from_random(5, 6),
                        Term(3), 1, protocol::Append{}});
  message.message.payload = Buffer::copy_of(as_bytes("some entries"));
  rpc::Frame error;
  error.kind = rpc::FrameKind::error;
  error.request_id = 9;
  error.message.header = rpc::encode_error(Error(Code::not_found, "none"));
  std::string frames;
  Output sealed;
  sealed.number<std::uint8_t>(5).number<std::uint8_t>(1);
  for (const rpc::Frame* frame : {&hello, &message, &error}) {
    append(frames, *frame);
    sealed.number(static_cast<std::uint8_t>(frame->kind)).number(frame->method);
    sealed.number(static_cast<std::uint8_t>(frame->request_id));
    sealed.number(static_cast<std::uint16_t>(frame->message.header.size()));
    sealed.number(static_cast<std::uint16_t>(frame->message.payload.size()));
    sealed.text(frame->message.header).text(as_text(frame->message.payload.view()));
  }
  return {{"frames", std::string(2, '\0') + frames},
          {"sealed", sealed.take()},
          {"http", std::string(2, '\0') + "GET /metrics HTTP/1.1\r\n\r\n"}};
}

}  // namespace datom::fuzz
