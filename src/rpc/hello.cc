#include "rpc/hello.h"

#include "common/check.h"

namespace datom::rpc {
namespace {

constexpr std::size_t kMaxName = 1000;

template <typename Integer>
void append(std::string& to, Integer value) {
  std::byte bytes[sizeof value];
  store_le(bytes, value);
  to += as_text(bytes);
}

void append_name(std::string& to, std::string_view name) {
  DATOM_CHECK(name.size() <= kMaxName);
  append(to, static_cast<std::uint16_t>(name.size()));
  to += name;
}

// Takes fields off the front.
class Fields {
 public:
  explicit Fields(std::string_view rest) : rest_(rest) {}

  template <typename Integer>
  Integer integer() {
    return load_le<Integer>(as_bytes(take(sizeof(Integer))).data());
  }
  std::string name() {
    const auto length = integer<std::uint16_t>();
    return std::string(take(length));
  }

 private:
  std::string_view take(std::size_t count) {
    if (rest_.size() < count) {
      throw Error(Code::corrupt, "hello ends early: a field of {} bytes, {} left", count,
                  rest_.size());
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
};

bool fits(const std::string& found, const std::string& expected) {
  return found.empty() || expected.empty() || found == expected;
}

}  // namespace

std::string Hello::encode() const {
  std::string header;
  append(header, protocol_version);
  append(header, shard);
  append_name(header, domain);
  append_name(header, sender);
  append_name(header, meant);
  return header;
}

Hello Hello::decode(std::string_view header) {
  Fields fields(header);
  Hello hello;
  hello.protocol_version = fields.integer<std::uint16_t>();
  hello.shard = fields.integer<std::uint32_t>();
  hello.domain = fields.name();
  hello.sender = fields.name();
  hello.meant = fields.name();
  return hello;
}

void check_hello(const Hello& hello, const std::string& domain, const std::string& self) {
  if (hello.protocol_version != kProtocolVersion) {
    throw Error(Code::unsupported, "\"{}\" speaks protocol version {}, \"{}\" speaks version {}",
                hello.sender, hello.protocol_version, self, kProtocolVersion);
  }
  if (!fits(hello.domain, domain)) {
    throw Error(Code::invalid_argument,
                "\"{}\" belongs to domain \"{}\", but \"{}\" to domain \"{}\"", hello.sender,
                hello.domain, self, domain);
  }
  if (!fits(hello.meant, self)) {
    throw Error(Code::invalid_argument, "meant for service \"{}\", but this is service \"{}\"",
                hello.meant, self);
  }
}

}  // namespace datom::rpc
