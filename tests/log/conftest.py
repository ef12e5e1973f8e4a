from small_log import signing_key

__all__ = ["signing_key"]
