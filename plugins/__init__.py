"""The plugins that come with aip, registered through the same entry points as anyone's."""
