// Byte streams between processes: the seam under NBD, HTTP and the real RPC transport. One Network
// per loop; its streams and listeners belong to that loop.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/bytes.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::runtime {

// Where a listener listens: "192.0.2.7:7400", "[2001:db8::1]:7400", or "unix:/path".
struct Address {
  std::string host;        // IP address; empty with unix_path
  std::uint16_t port = 0;  // 0 to listen: the system picks one
  std::string unix_path;   // a socket in the file system, instead of host and port

  // Throws Error{invalid_argument}. Host names are not resolved.
  static Address parse(const std::string& text);
  std::string to_string() const;
  bool operator==(const Address&) const = default;
};

// A connected socket on its way from one loop to another. Closes it if nobody adopts it.
class NativeSocket {
 public:
  explicit NativeSocket(int descriptor = -1) : descriptor_(descriptor) {}
  NativeSocket(NativeSocket&& other) noexcept;
  NativeSocket& operator=(NativeSocket&& other) noexcept;
  ~NativeSocket();
  int release();  // the caller closes it

 private:
  int descriptor_;
};

// A connected TCP or Unix stream (TCP_NODELAY). One read and one write may be under way at once.
class Stream {
 public:
  virtual ~Stream() = default;

  // At least one byte, at most into.size(); 0 when the peer has closed its side. Error{closed}
  // after close() or when the connection broke.
  virtual Task<std::size_t> read_some(MutableBytes into) = 0;
  // Writes all pieces in order, gathered into as few system calls as they need. The pieces stay the
  // caller's and must live until it returns. Error{closed} as above.
  virtual Task<void> write(std::span<const ByteView> pieces) = 0;
  // Ends reads and writes under way with Error{closed}. Idempotent.
  virtual void close() = 0;
  // "192.0.2.7:50122", for logs.
  virtual std::string peer() const = 0;
  // Gives the socket away, to be adopted on another loop. REQUIRES: nothing is under way; the
  // stream is closed for its owner afterwards.
  virtual NativeSocket release() = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // The next connection. Error{closed} after close(). Running out of descriptors is not an error
  // here: it waits and tries again.
  virtual Task<std::unique_ptr<Stream>> accept() = 0;
  virtual void close() = 0;
  virtual Address address() const = 0;  // with the port that the system picked
};

class Network {
 public:
  virtual ~Network() = default;
  // Error{unavailable} if refused or unreachable, Error{timeout} after `timeout`.
  virtual Task<std::unique_ptr<Stream>> connect(Address to, Duration timeout) = 0;
  // Listens at once. Throws Error{already_exists} if the address is in use, else as throw_errno.
  virtual std::unique_ptr<Listener> listen(const Address& at) = 0;
  virtual std::unique_ptr<Stream> adopt(NativeSocket socket) = 0;
};

// Reads exactly into.size() bytes; Error{closed} if the stream ends first.
Task<void> read_exactly(Stream& stream, MutableBytes into);

}  // namespace datom::runtime
