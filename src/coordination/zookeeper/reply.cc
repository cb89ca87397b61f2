#include "coordination/zookeeper/reply.h"

#include "common/error.h"

namespace datom::coordination::zookeeper {
namespace {

Code code_of(int answer) {
  switch (answer) {
    case ZNONODE:
      return Code::not_found;
    case ZNODEEXISTS:
      return Code::already_exists;
    case ZBADVERSION:
    case ZNOTEMPTY:
    case ZNOCHILDRENFOREPHEMERALS:
      return Code::conflict;
    case ZBADARGUMENTS:
      return Code::invalid_argument;
    case ZNOAUTH:
    case ZINVALIDACL:
    case ZAUTHFAILED:
      return Code::permission_denied;
    case ZUNIMPLEMENTED:
      return Code::unsupported;
    case ZTHROTTLEDOP:
    case ZNOTREADONLY:
      return Code::unavailable;
    default:
      // Connection lost, timed out, closed. Expired too: the C client says that of calls which were
      // sent on a connection before.
      return Code::outcome_unknown;
  }
}

}  // namespace

void Reply::complete(int result) {
  session_.end_call(*this);
  if (watch_ && result == watch_code_) session_.add_watch(watch_);
  finish(result);
}

void Reply::finish(int result) {
  code = result;
  loop_.post([caller = caller_] { caller.resume(); });
}

void Reply::on_path(int code, const char* path, const void* reply) {
  if (path != nullptr) from(reply).text = path;
  from(reply).complete(code);
}

void Reply::on_data(int code, const char* data, int size, const ::Stat* stat, const void* reply) {
  if (data != nullptr && size > 0) from(reply).text.assign(data, static_cast<std::size_t>(size));
  if (stat != nullptr) from(reply).stat = *stat;
  from(reply).complete(code);
}

void Reply::on_stat(int code, const ::Stat* stat, const void* reply) {
  if (stat != nullptr) from(reply).stat = *stat;
  from(reply).complete(code);
}

void Reply::on_names(int code, const String_vector* names, const void* reply) {
  if (names != nullptr) from(reply).names.assign(names->data, names->data + names->count);
  from(reply).complete(code);
}

void Reply::on_done(int code, const void* reply) {
  from(reply).complete(code);
}

bool is_unmet(int code) {
  switch (code_of(code)) {
    case Code::not_found:
    case Code::already_exists:
    case Code::conflict:
      return true;
    default:
      return false;
  }
}

void throw_answer(int code, std::string_view what) {
  throw Error(code_of(code), "{}: {}", what, zerror(code));
}

}  // namespace datom::coordination::zookeeper
