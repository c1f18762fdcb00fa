from tests.iserver.test_http_ofrep import *  # noqa: F403
