// The clients that people use, each against a server on real sockets.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <stdio.h>
#include <sys/wait.h>

#include <fstream>
#include <string>

#include "nbd/testing/live_server.h"
#include "runtime/virtual_loop.h"

namespace datom::nbd::testing {
namespace {

using ::testing::HasSubstr;

struct Outcome {
  int status = -1;
  std::string output;  // standard output and standard error
};

Outcome run(const std::string& command) {
  FILE* pipe = ::popen(("exec 2>&1; " + command).c_str(), "r");
  DATOM_CHECK(pipe != nullptr);
  Outcome outcome;
  char part[4096];
  for (std::size_t size; (size = ::fread(part, 1, sizeof part, pipe)) > 0;) {
    outcome.output.append(part, size);
  }
  const int status = ::pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

void expect_success(const std::string& command) {
  const Outcome outcome = run(command);
  EXPECT_EQ(outcome.status, 0) << command << "\n" << outcome.output;
}

// A file of `size` bytes: runs of random bytes, of one repeated byte and of zeros.
void make_image(const std::string& path, std::size_t size) {
  runtime::SeededRandom random(11);
  std::string image;
  while (image.size() < size) {
    std::string run(1 + random.below(300000), '\0');
    const std::uint64_t kind = random.below(3);
    if (kind == 0) {
      for (char& byte : run) byte = static_cast<char>(random.next());
    } else if (kind == 1) {
      run.assign(run.size(), static_cast<char>('a' + random.below(26)));
    }
    image += run;
  }
  image.resize(size);
  std::ofstream(path, std::ios::binary) << image;
}

class Clients : public ::testing::Test {
 protected:
  // Skips the test where the program is not installed.
  static bool missing(const std::string& program) {
    return run("command -v " + program).status != 0;
  }
  std::string quoted(const std::string& uri) const { return "'" + uri + "'"; }
  std::string path(const std::string& name) const { return server.directory() / name; }

  LiveServer server;
};

#define DATOM_NEEDS(program) \
  if (missing(program)) GTEST_SKIP() << program << " is not installed"

TEST_F(Clients, NbdinfoShowsAnExport) {
  DATOM_NEEDS("nbdinfo");
  for (const std::string& uri : {server.tcp("disk"), server.unix("disk"), server.tcp("near")}) {
    const Outcome info = run("nbdinfo --json " + quoted(uri));
    ASSERT_EQ(info.status, 0) << info.output;
    EXPECT_THAT(info.output, HasSubstr("\"protocol\": \"newstyle-fixed\""));
    EXPECT_THAT(info.output, HasSubstr("\"structured\": true"));
    EXPECT_THAT(info.output, HasSubstr("\"export-size\": 67108864"));
    EXPECT_THAT(info.output, HasSubstr("\"base:allocation\""));
    EXPECT_THAT(info.output, HasSubstr("\"is_read_only\": false"));
    EXPECT_THAT(info.output, HasSubstr("\"can_fast_zero\": true"));
    EXPECT_THAT(info.output, HasSubstr("\"block_size_minimum\": 1,"));
    EXPECT_THAT(info.output, HasSubstr("\"block_size_preferred\": 4096"));
    EXPECT_THAT(info.output, HasSubstr("\"block_size_maximum\": 33554432"));
  }
  EXPECT_THAT(run("nbdinfo --json " + quoted(server.tcp("disk"))).output,
              HasSubstr("a disk in memory"));
  EXPECT_EQ(run("nbdinfo --is read-only " + quoted(server.tcp("frozen"))).status, 0);
  EXPECT_EQ(run("nbdinfo --can multi-conn " + quoted(server.tcp("disk"))).status, 0);
  EXPECT_NE(run("nbdinfo --can multi-conn " + quoted(server.tcp("near"))).status, 0);
}

TEST_F(Clients, NbdinfoListsExports) {
  DATOM_NEEDS("nbdinfo");
  const Outcome list = run("nbdinfo --list " + quoted(server.tcp("")));
  ASSERT_EQ(list.status, 0) << list.output;
  for (const char* name : {"export=\"disk\"", "export=\"near\"", "export=\"frozen\""}) {
    EXPECT_THAT(list.output, HasSubstr(name));
  }
}

TEST_F(Clients, QemuShowsWhyAnExportIsRefused) {
  DATOM_NEEDS("qemu-img");
  const Outcome unknown = run("qemu-img info " + quoted(server.tcp("nope")));
  EXPECT_NE(unknown.status, 0);
  EXPECT_THAT(unknown.output, HasSubstr("there is no export 'nope'"));
  EXPECT_THAT(run("qemu-img info " + quoted(server.tcp(""))).output,
              HasSubstr("disk, frozen, near"));
}

TEST_F(Clients, NbdinfoMapsWhatWasWritten) {
  DATOM_NEEDS("nbdinfo");
  DATOM_NEEDS("qemu-io");
  expect_success("qemu-io -f raw -c 'write -P 7 1M 64k' -c 'write -z 2M 64k' " +
                 quoted(server.tcp("disk")));
  const Outcome map = run("nbdinfo --map " + quoted(server.tcp("disk")));
  ASSERT_EQ(map.status, 0) << map.output;
  EXPECT_EQ(map.output,
            "         0     1048576    3  hole,zero\n"
            "   1048576       65536    0  data\n"
            "   1114112      983040    3  hole,zero\n"
            "   2097152       65536    2  zero\n"
            "   2162688    64946176    3  hole,zero\n");
}

TEST_F(Clients, NbdcopyCopiesInAndOut) {
  DATOM_NEEDS("nbdcopy");
  make_image(path("image"), LiveServer::kSize);
  for (const std::string& uri : {server.tcp("disk"), server.unix("near")}) {
    expect_success("nbdcopy --flush " + path("image") + " " + quoted(uri));
    expect_success("nbdcopy " + quoted(uri) + " " + path("copy"));
    expect_success("cmp " + path("image") + " " + path("copy"));
    expect_success("nbdcopy --synchronous --request-size=33554432 " + quoted(uri) + " " +
                   path("large"));
    expect_success("cmp " + path("image") + " " + path("large"));
  }
}

TEST_F(Clients, QemuImgConvertsAndCompares) {
  DATOM_NEEDS("qemu-img");
  make_image(path("image"), LiveServer::kSize);
  for (const std::string& uri : {server.tcp("near"), server.unix("disk")}) {
    expect_success("qemu-img convert -n -W -m 8 -f raw -O raw " + path("image") + " " +
                   quoted(uri));
    expect_success("qemu-img compare -f raw -F raw " + path("image") + " " + quoted(uri));
    expect_success("qemu-img convert -f raw -O qcow2 " + quoted(uri) + " " + path("copy.qcow2"));
    expect_success("qemu-img compare -f raw -F qcow2 " + path("image") + " " + path("copy.qcow2"));
  }
  EXPECT_NE(
      run("qemu-img convert -n -f raw -O raw " + path("image") + " " + quoted(server.tcp("frozen")))
          .status,
      0);
}

TEST_F(Clients, QemuIoWritesZeroesDiscardsAndReadsBackAtAnyAlignment) {
  DATOM_NEEDS("qemu-io");
  const char* commands[] = {"write -P 1 0 1M",        "write -P 2 513 1023",
                            "read -P 1 0 513",        "read -P 2 513 1023",
                            "read -P 1 1536 4k",      "write -f -P 3 64k 64k",
                            "write -z 128k 64k",      "read -P 0 128k 64k",
                            "write -z -u 192k 64k",   "read -P 0 192k 64k",
                            "write -z 300001 70001",  "read -P 0 300001 70001",
                            "read -P 1 300000 1",     "read -P 1 370002 100",
                            "discard 512k 64k",       "read -P 0 512k 64k",
                            "read -P 3 64k 64k",      "flush",
                            "aio_write -P 4 2M 1M",   "aio_write -P 5 3M 1M",
                            "aio_read -P 1 256k 32k", "aio_flush",
                            "read -P 4 2M 1M",        "read -P 5 3M 1M",
                            "write -P 6 4M 31M",      "read -P 6 4M 31M"};
  std::string command = "qemu-io -f raw";
  for (const char* one : commands) command += fmt::format(" -c '{}'", one);
  for (const std::string& uri : {server.tcp("disk"), server.unix("near")}) {
    const Outcome outcome = run(command + " " + quoted(uri));
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_THAT(outcome.output, ::testing::Not(HasSubstr("failed")));
  }
}

TEST_F(Clients, FioVerifiesWhatItWrote) {
  DATOM_NEEDS("fio");
  if (run("fio --enghelp").output.find("nbd") == std::string::npos) {
    GTEST_SKIP() << "fio has no nbd engine";
  }
  const char* jobs[] = {"--rw=randrw --bs=4k", "--rw=randwrite --bs=1000 --fsync=500",
                        "--rw=write --bsrange=512-128k --bs_unaligned=1"};
  for (const std::string& uri : {server.tcp("disk"), server.unix("near")}) {
    for (const char* job : jobs) {
      expect_success("cd " + path("") + " && fio --name=verify --ioengine=nbd --iodepth=32 " + job +
                     " --size=8M --randseed=5 --verify=crc32c --verify_fatal=1 '--uri=" + uri +
                     "'");
    }
  }
}

// What the other clients never send, through libnbd's Python binding.
TEST_F(Clients, LibnbdMeetsEveryErrorAndMode) {
  if (run("/usr/bin/python3 -c 'import nbd'").status != 0) {
    GTEST_SKIP() << "python3-libnbd is not installed";
  }
  std::ofstream(path("modes.py")) << R"(
import errno, nbd, sys
tcp, frozen = sys.argv[1:3]

def connect(uri, structured=True, old=False):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.set_request_structured_replies(structured)
    h.add_meta_context("base:allocation")
    if old:  # without fixed newstyle only EXPORT_NAME is used
        h.set_handshake_flags(0)
    h.connect_uri(uri)
    return h

def fails(number, call):
    try:
        call()
    except nbd.Error as e:
        assert e.errnum == number, (e, number)
        return
    raise AssertionError("no error")

for structured in (True, False):
    h = connect(tcp, structured)
    assert h.get_structured_replies_negotiated() == structured
    assert h.can_meta_context("base:allocation") == structured
    size = h.get_size()
    h.pwrite(b"x" * 10000, 1234, nbd.CMD_FLAG_FUA)
    assert h.pread(10002, 1233) == b"\0" + b"x" * 10000 + b"\0"
    if structured:
        assert h.pread(65536, 0, nbd.CMD_FLAG_DF)[1234:1244] == b"x" * 10
    h.zero(4096, 4096, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(4096, 4096) == bytes(4096)
    fails(errno.ENOTSUP, lambda: h.zero(4096, 4096, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE))
    fails(errno.ENOTSUP, lambda: h.zero(100, 1, nbd.CMD_FLAG_FAST_ZERO))
    h.trim(1 << 20, 0, nbd.CMD_FLAG_FUA)
    h.flush()
    fails(errno.EINVAL, lambda: h.pread(2, size - 1))
    fails(errno.ENOSPC, lambda: h.pwrite(b"ab", size - 1))
    fails(errno.ENOSPC, lambda: h.zero(2, size - 1))
    fails(errno.EINVAL, lambda: h.trim(2, size - 1))
    fails(errno.EINVAL, lambda: h.cache(512, 0))
    fails(errno.EINVAL, lambda: h.pread((32 << 20) + 1, 0))
    fails(errno.EINVAL, lambda: h.pwrite(bytes((32 << 20) + 1), 0))
    fails(errno.EINVAL, lambda: h.trim(512, 0, nbd.CMD_FLAG_REQ_ONE))
    extents = []
    def status(context, offset, entries, error):
        extents.append((context, offset, list(entries)))
    if structured:
        h.block_status(size, 0, status)
        context, offset, entries = extents.pop()
        assert (context, offset) == ("base:allocation", 0)
        assert sum(entries[0::2]) == size, entries
        h.block_status(8192, 4096, status, nbd.CMD_FLAG_REQ_ONE)
        assert extents.pop()[2] == [8192, 3]
    fails(errno.EINVAL, lambda: h.block_status(1, size, status))
    h.pwrite(b"z" * (32 << 20), 0)
    assert h.pread(32 << 20, 0) == b"z" * (32 << 20)
    h.zero(32 << 20, 0)
    h.shutdown()

h = connect(tcp, old=True)
assert h.get_protocol() == "newstyle"
assert h.pread(16, 0) == bytes(16)
h.shutdown()

h = connect(frozen)
assert h.is_read_only()
fails(errno.EPERM, lambda: h.pwrite(b"a", 0))
fails(errno.EPERM, lambda: h.trim(512, 0))
fails(errno.EPERM, lambda: h.zero(512, 0))
h.flush()
h.shutdown()

h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(tcp)
names = []
assert h.opt_list(lambda name, description: names.append(name)) == 3
assert names == ["disk", "frozen", "near"], names
contexts = []
assert h.opt_list_meta_context(lambda name: contexts.append(name)) == 1
assert contexts == ["base:allocation"]
h.set_export_name("nope")
fails(errno.ENOENT, h.opt_info)
h.set_export_name("frozen")
h.opt_info()
assert h.is_read_only()
h.opt_abort()

h = nbd.NBD()
h.set_tls(nbd.TLS_ALLOW)
h.connect_uri(tcp)
assert not h.get_tls_negotiated()

h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(tcp)
h.set_export_name("disk")
h.opt_go()
cookies = []
for i in range(1000):
    b = nbd.Buffer.from_bytearray(bytearray([i % 256]) * 512)
    cookies.append(h.aio_pwrite(b, i * 512))
while cookies:
    h.poll(-1)
    cookies = [c for c in cookies if not h.aio_command_completed(c)]
for i in range(1000):
    assert h.pread(512, i * 512) == bytes([i % 256]) * 512
h.shutdown()
)";
  expect_success("/usr/bin/python3 " + path("modes.py") + " " + quoted(server.tcp("disk")) + " " +
                 quoted(server.unix("frozen")));
}

}  // namespace
}  // namespace datom::nbd::testing
