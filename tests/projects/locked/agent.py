import idna
import six
import x

graph = x.V
