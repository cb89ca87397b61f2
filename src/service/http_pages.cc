#include "service/http_pages.h"

#include <utility>

namespace datom::service {
namespace {

runtime::Task<void> serve(runtime::Loop& loop, std::unique_ptr<runtime::Stream> stream,
                          std::string read, http::Handler handler) {
  co_await http::serve(loop, *stream, std::move(read), std::move(handler));
}

}  // namespace

rpc::Server::OnHttp serve_http(runtime::Loop& loop, http::Handler handler) {
  return [&loop, handler = std::move(handler)](std::unique_ptr<runtime::Stream> stream,
                                               std::string read) {
    return serve(loop, std::move(stream), std::move(read), handler);
  };
}

}  // namespace datom::service
