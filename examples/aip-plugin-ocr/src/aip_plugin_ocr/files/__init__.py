"""Files of lines: images with texts, PageXML, ALTO and HDF5."""
