// NBD: a whole connection, handshake and transmission. First byte: size of the pieces that arrive.
#include "fuzz/feed_stream.h"
#include "fuzz/input.h"
#include "fuzz/target.h"
#include "nbd/connection.h"
#include "nbd/memory_export.h"
#include "nbd/wire.h"
#include "rpc/test_streams.h"
#include "runtime/virtual_loop.h"

namespace datom::fuzz {
namespace {

constexpr std::uint64_t kSize = 64 << 10;

void greeting(nbd::Encoder& out) {
  out.u32(nbd::kFixedNewstyle | nbd::kNoZeroes);
}

void option(nbd::Encoder& out, nbd::Option which, const nbd::Encoder& data) {
  out.u64(nbd::kOptionMagic)
      .u32(static_cast<std::uint32_t>(which))
      .u32(static_cast<std::uint32_t>(data.size()))
      .text(as_text(data.view()));
}

void request(nbd::Encoder& out, nbd::Command command, std::uint16_t flags, std::uint64_t offset,
             std::uint32_t length) {
  out.u32(nbd::kRequestMagic)
      .u16(flags)
      .u16(static_cast<std::uint16_t>(command))
      .u64(7)
      .u64(offset)
      .u32(length);
}

nbd::Encoder go(std::string_view name) {
  nbd::Encoder data;
  data.u32(static_cast<std::uint32_t>(name.size())).text(name).u16(2).u16(1).u16(3);
  return data;
}

nbd::Encoder contexts(std::string_view name, std::string_view query) {
  nbd::Encoder data;
  data.u32(static_cast<std::uint32_t>(name.size())).text(name);
  data.u32(1).u32(static_cast<std::uint32_t>(query.size())).text(query);
  return data;
}

std::string seed(char piece, const nbd::Encoder& bytes) {
  return piece + std::string(as_text(bytes.view()));
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  const std::size_t piece = input.byte();
  runtime::VirtualLoop loop;
  rpc::test::MemoryStreams network(loop);
  nbd::MemoryExports exports;
  nbd::ExportInfo info;
  info.name = "v";
  info.size = kSize;
  exports.add(info, {&loop, &network});
  info.name = "readonly";
  info.read_only = true;
  exports.add(info, {&loop, &network});
  nbd::ServerContext context{loop, network, exports, {}, telemetry::Log::silent()};
  context.options.max_in_flight_bytes = 1 << 20;
  nbd::Connection connection(context, std::make_unique<FeedStream>(loop, input.rest(), piece));
  loop.run(connection.run());
}

std::map<std::string, std::string> seeds() {
  using nbd::Command;
  using nbd::Option;
  std::map<std::string, std::string> all;
  nbd::Encoder transmission;
  greeting(transmission);
  option(transmission, Option::structured_reply, {});
  option(transmission, Option::set_meta_context, contexts("v", nbd::kBaseAllocation));
  option(transmission, Option::go, go("v"));
  request(transmission, Command::write, nbd::kFua, 100, 20);
  transmission.text("twenty bytes to keep");
  request(transmission, Command::read, 0, 0, 8192);
  request(transmission, Command::trim, 0, 4096, 8192);
  request(transmission, Command::write_zeroes, nbd::kNoHole, 0, 4096);
  request(transmission, Command::block_status, nbd::kRequestOne, 0, kSize);
  request(transmission, Command::flush, 0, 0, 0);
  request(transmission, Command::disconnect, 0, 0, 0);
  all["transmission"] = seed(0, transmission);
  all["transmission_in_pieces"] = seed(7, transmission);
  nbd::Encoder simple;
  greeting(simple);
  nbd::Encoder name;
  name.text("readonly");
  option(simple, Option::export_name, name);
  request(simple, Command::read, 0, 4095, 2);
  request(simple, Command::write, 0, 0, 4);
  simple.text("four");
  request(simple, Command::read, 0, kSize, 1);
  all["simple"] = seed(0, simple);
  nbd::Encoder haggle;
  greeting(haggle);
  option(haggle, Option::list, {});
  option(haggle, Option::start_tls, {});
  option(haggle, Option::info, go("nothing"));
  option(haggle, Option::list_meta_context, contexts("v", "base:"));
  option(haggle, static_cast<Option>(99), name);
  option(haggle, Option::abort, {});
  all["haggle"] = seed(3, haggle);
  return all;
}

}  // namespace datom::fuzz
