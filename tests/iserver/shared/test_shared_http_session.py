from tests.iserver.test_http_session import *  # noqa: F403
