from tests.iserver.test_http_sse import *  # noqa: F403
