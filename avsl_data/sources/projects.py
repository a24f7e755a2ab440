"""Where the projects of this field keep their lists: fixed commits of public repositories."""

from __future__ import annotations

from typing import Final

GITHUB: Final = "https://raw.githubusercontent.com"

ACL: Final = f"{GITHUB}/swimmiing/ACL-SSL/57f4a6c3b93e03992806da483c143c8802eba21d/VGGSS/metadata"
ACL_AVSBENCH: Final = f"{GITHUB}/swimmiing/ACL-SSL/57f4a6c3b93e03992806da483c143c8802eba21d/AVSBench/metadata"
ARDASNCK: Final = (
    f"{GITHUB}/ardasnck/learning_to_localize_sound_source/89205e9b0af21be847d29deeaded140604e77229"
)
EZVSL: Final = f"{GITHUB}/stoneMo/EZ-VSL/95ff5bff30191fed11856699a7669419fa59b356/metadata"
FNAC: Final = f"{GITHUB}/OpenNLPLab/FNAC_AVL/0a0ca78aa4b263fde37af85c82f4f6812853c6de/metadata"
HTF: Final = f"{GITHUB}/denfed/heartheflow/60ed54d84d94821856522a44126173ca9be1a729/metadata"
LVS: Final = (
    f"{GITHUB}/hche11/Localizing-Visual-Sounds-the-Hard-Way/8fe8cbbf810e804cf8cc9b244bb5d77ec8aa8315/metadata"
)
SLAVC: Final = f"{GITHUB}/stoneMo/SLAVC/05b429c6f474ca6f1070d08e1d0142948d1625bf/metadata"
SSLALIGN: Final = f"{GITHUB}/kaistmm/SSLalignment/e7ae3c5518e5a4d911c49e034d906612cf922aff/metadata"
SSLTIE: Final = f"{GITHUB}/jinxiang-liu/SSL-TIE/c49e6a94e4ed63bba864ba01e9138451ca1cc801/metadata"
SSPL: Final = f"{GITHUB}/zjsong/SSPL/d1af4c7a228fcc0184cae2c6b9dc251ddf4ff780/metadata"
VGGSOUND: Final = f"{GITHUB}/hche11/VGGSound/9bbc7491c054a203e53584c0065df336e1322bb7/data"
