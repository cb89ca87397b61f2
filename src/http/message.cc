#include "http/message.h"

namespace datom::http {
namespace {

constexpr std::size_t kReadSize = 16 << 10;

}  // namespace

runtime::Task<bool> read_more(runtime::Stream& stream, std::string& pending) {
  const std::size_t before = pending.size();
  pending.resize(before + kReadSize);
  const MutableBytes into(reinterpret_cast<std::byte*>(pending.data() + before), kReadSize);
  const std::size_t count = co_await stream.read_some(into);
  pending.resize(before + count);
  co_return count > 0;
}

}  // namespace datom::http
