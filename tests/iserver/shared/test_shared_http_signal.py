from tests.iserver.test_http_signal import *  # noqa: F403
